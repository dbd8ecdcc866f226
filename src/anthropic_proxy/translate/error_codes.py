"""Map the codes and the texts of errors to HTTP statuses.

Errors within a response with status 200 have no HTTP status of their own. Upstreams name their
kind in a code, a type or a status, with the names of several APIs. The names are compared without
case and separators, so `RateLimitError` equals `rate_limit_error`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_HTTP_STATUS = re.compile(r"[45]\d\d")
_GENERIC_STATUS = 500
_MAX_NAME_LENGTH = 100

_NAMES_BY_STATUS: Mapping[int, tuple[str, ...]] = {
    400: (
        # OpenAI, Anthropic, vLLM, Google, DashScope
        "invalid_request_error",
        "bad_request",
        "BadRequestError",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "InvalidParameter",
        "context_length_exceeded",
        "invalid_prompt",
        "data_residency_mismatch",
        # content that the upstream refuses: OpenAI, Azure, DashScope
        "content_filter",
        "content_policy_violation",
        "DataInspectionFailed",
        "bio_policy",
        "cyber_policy",
        "misalignment_policy_violation",
        # images: OpenAI's Responses API
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "invalid_image_mode",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "image_file_too_large",
        "image_file_not_found",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
    ),
    401: ("authentication_error", "invalid_api_key", "InvalidApiKey", "UNAUTHENTICATED"),
    402: ("billing_error", "insufficient_balance", "insufficient_balance_error", "Arrearage"),
    403: ("permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "model_not_found", "NotFoundError"),
    413: ("request_too_large",),
    429: (
        # OpenAI, Anthropic, Google, DashScope, Codex; of spent credit: see `upstream_errors`
        "rate_limit_exceeded",
        "rate_limit_error",
        "too_many_requests",
        "RESOURCE_EXHAUSTED",
        "Throttling",
        "Throttling.RateQuota",
        "Throttling.AllocationQuota",
        "usage_limit_reached",
        "insufficient_quota",
    ),
    529: (
        # OpenAI, Anthropic, Moonshot, Google
        "server_is_overloaded",
        "server_overloaded",
        "slow_down",
        "overloaded_error",
        "overloaded",
        "engine_overloaded_error",
        "UNAVAILABLE",
        "service_unavailable",
        "service_unavailable_error",
    ),
    504: ("timeout_error", "DEADLINE_EXCEEDED"),
}


def _normalize(name: str) -> str:
    return _SEPARATORS.sub("", name[:_MAX_NAME_LENGTH].lower())


_STATUS_BY_NAME = {
    _normalize(name): status for status, names in _NAMES_BY_STATUS.items() for name in names
}

# The codes in MiniMax's `base_resp`.
_STATUS_BY_MINIMAX_CODE = {
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,
}

# Zhipu's codes, which are strings.
_STATUS_BY_ZHIPU_CODE = {
    "1113": 402,
    "1210": 400,
    "1214": 400,
    "1261": 400,
    "1301": 400,
    "1302": 429,
    "1303": 429,
    "1305": 429,
    "1308": 429,
    "1310": 429,
    "1312": 529,
}

# Fields of an error with its HTTP status or with a name of its kind.
_CODE_FIELDS = ("code", "status", "status_code", "http_code", "error_code")
_NAME_FIELDS = ("code", "type", "status", "reason", "error_code", "error_type")

# Members of the stream events of some gateways (Dify: `event`) that contain names as well.
_EVENT_FIELDS = ("object", "event")
# Parts of unknown names of errors: `EngineDeadError`, `request_failed`, `InvalidApiKey.Expired`.
_ERROR_NAME_PART = re.compile(
    r"error|exception|fail|invalid|exceeded|denied|unavailable|timeout|throttl", re.IGNORECASE
)
_MIN_ERROR_CODE = 400
_MAX_CODE_DIGITS = 9

# For errors without a known code, in order.
_STATUS_BY_WORDING = (
    (
        re.compile(
            r"rate[ _-]?limit|too many requests|\bper[ -]minute|\b[RT]PM\b|throttl|限流",
            re.IGNORECASE,
        ),
        429,
    ),
    (
        re.compile(
            r"overloaded|at capacity|server is (?:too )?busy|high traffic|temporarily unavailable"
            r"|service unavailable|upstream connect error|繁忙",
            re.IGNORECASE,
        ),
        529,
    ),
)


def find_named_status(names: Iterable[object]) -> int | None:
    """Return the HTTP status of the first known name of an error, or None."""
    for name in names:
        status = _STATUS_BY_NAME.get(_normalize(name)) if isinstance(name, str) else None
        if status is not None:
            return status
    return None


def get_minimax_status(code: object) -> int:
    """Return the HTTP status of the code in MiniMax's `base_resp`."""
    return _STATUS_BY_MINIMAX_CODE.get(code, 500) if isinstance(code, int) else 500


def find_status(error: JsonObject, text: str) -> int:
    """Return the HTTP status of an error within a response with status 200; 500 if unknown."""
    codes = [str(error.get(name)) for name in _CODE_FIELDS]
    for code in codes:
        if _HTTP_STATUS.fullmatch(code) and int(code) != _GENERIC_STATUS:
            return int(code)
    named_status = find_named_status(_list_names(error))
    if named_status is not None:
        return named_status
    if codes[0] in _STATUS_BY_ZHIPU_CODE:
        return _STATUS_BY_ZHIPU_CODE[codes[0]]
    for wording, status in _STATUS_BY_WORDING:
        if wording.search(text):
            return status
    return _GENERIC_STATUS


def has_error_code(error: JsonObject) -> bool:
    """Return whether an object contains the code or the name of an error."""
    if any(_is_error_number(error.get(name)) for name in _CODE_FIELDS):
        return True
    names = [*_list_names(error), *(error.get(name) for name in _EVENT_FIELDS)]
    if find_named_status(names) is not None:
        return True
    return any(isinstance(name, str) and _has_error_part(name) for name in names)


def _is_error_number(code: object) -> bool:
    """Return whether a code is negative, or at least 400. Some servers send it as a string."""
    if isinstance(code, str) and code.isdecimal() and len(code) <= _MAX_CODE_DIGITS:
        code = int(code)
    return isinstance(code, int) and (code < 0 or code >= _MIN_ERROR_CODE)


def _has_error_part(name: str) -> bool:
    return _ERROR_NAME_PART.search(name[:_MAX_NAME_LENGTH]) is not None


def _list_names(error: JsonObject) -> list[Any]:
    names: list[Any] = []
    for field in _NAME_FIELDS:
        value = error.get(field)
        # The converter of the Responses API joins a code and a type.
        names += value.split(" ") if isinstance(value, str) else []
    return names
