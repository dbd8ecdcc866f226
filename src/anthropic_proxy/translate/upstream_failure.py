"""The failure that an upstream reported, parsed from its response."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anthropic_proxy.errors.redaction import MAX_SEARCHED, NO_SECRETS, Redactor, Secret
from anthropic_proxy.translate.error_codes import get_minimax_status, has_error_code
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_received

_MAX_REDACTED_LENGTH = 2000
# The additional character shows that the text was truncated.
MAX_TEXT_LENGTH = MAX_SEARCHED + 1
_MAX_CODE_LENGTH = 200
MAX_PAGE_SEARCHED = 4096
_MAX_COUNT_DIGITS = 15

_THOUSANDS_SEPARATOR = re.compile(r"(?<=\d)[,_](?=\d{3}(?!\d))")


@dataclass(frozen=True)
class UpstreamIdentity:
    """The upstream that sent a response."""

    # the name that clients see
    name: str
    redactor: Redactor = NO_SECRETS
    # the client's own key, if the proxy sent it instead of the configured key
    caller_api_key: str | None = None
    # whether the proxy sends a key or another credential to the upstream
    has_key: bool = True
    # base URL of its API; empty if clients must not see it
    base_url: str = ""

    def redact_beginning(self, text: str) -> str:
        """Return the beginning of a text, without secrets and private addresses."""
        if self.caller_api_key:
            text = Redactor([Secret(self.caller_api_key)]).redact_beginning(text)
        return self.redactor.redact_beginning(text)

    def redact(self, text: str) -> str:
        """Return the text without secrets and private addresses."""
        if self.caller_api_key:
            text = Redactor([Secret(self.caller_api_key)]).redact(text)
        return self.redactor.redact(text)


@dataclass(frozen=True)
class UpstreamFailure:
    """An error that an upstream reported.

    Rules use `text`; clients, logs and spans get `redacted_text`.
    """

    status: int
    # the upstream's text, which may contain secrets; truncated if it is long
    text: str
    # the machine-readable error object
    error: JsonObject
    headers: Mapping[str, str]
    upstream: UpstreamIdentity
    # path below the base URL, for requests with a conversation; empty for other requests
    path: str = ""
    # whether the response contained an error text
    has_reason: bool = True
    # whether the request contained an image; None if it is unknown
    has_image: bool | None = None

    @property
    def upstream_name(self) -> str:
        return self.upstream.name

    @cached_property
    def redacted_text(self) -> str:
        """The beginning of the text without secrets, at most 2,000 characters."""
        return self.upstream.redact_beginning(self.text)[:_MAX_REDACTED_LENGTH]

    @cached_property
    def stated_text(self) -> str:
        """The text without the parts of the conversation that validation errors repeat.

        FastAPI's errors contain the path, the text and the rejected value of each problem. Empty
        if the upstream stated no reason.
        """
        if not self.has_reason:
            return ""
        detail = self.error.get("detail")
        if not isinstance(detail, list):
            return self.text
        problems = [_describe_problem(item) for item in detail if isinstance(item, dict)]
        return "\n".join(problems)[:MAX_TEXT_LENGTH]

    @property
    def codes(self) -> str:
        """The error's code and type, truncated because some patterns are slow."""
        codes = [str(self.error.get(name) or "")[:_MAX_CODE_LENGTH] for name in ("code", "type")]
        return " ".join(codes)

    @property
    def searchable_text(self) -> str:
        """The text with the error's code and type."""
        return f"{self.text} {self.codes}"


def _describe_problem(item: JsonObject) -> str:
    """Return the path and the text of a problem; of its value only whether it is null."""
    path = item.get("loc")
    names = map(str, path) if isinstance(path, list) else ()
    value = " (null)" if item.get("input", "") is None else ""
    return f"{'.'.join(names)}: {item.get('msg')}{value}"


# An image in a request of the Messages API, Chat Completions or the Responses API. Quotes in texts
# are escaped.
_IMAGE = re.compile(rb'"type"\s*:\s*"(?:image|image_url|input_image)"')


def contains_image(payload: bytes) -> bool:
    """Return whether the body of a request contains an image."""
    return _IMAGE.search(payload) is not None


def parse_failure(  # noqa: PLR0913 - the parts of an exchange
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    upstream: UpstreamIdentity,
    path: str = "",
    *,
    payload: bytes | None = None,
) -> UpstreamFailure:
    """Parse an HTTP response with `status` >= 300.

    path: as in `UpstreamFailure`. payload: the body of the request, if it is known.
    """
    try:
        text, error = parse_message(loads_received(body))
    except ValueError:
        text, error = parse_plain_text(body), {}
    has_reason = bool(text)
    if not has_reason:
        text = f"The upstream {upstream.name} returned status {status} without an error message"
    has_image = None if payload is None else contains_image(payload)
    return UpstreamFailure(
        status, text[:MAX_TEXT_LENGTH], error, headers, upstream, path, has_reason, has_image
    )


# Fields with the text of an error: of OpenAI, Zhipu, FastAPI, Baidu, MiniMax and gateways.
_TEXT_FIELDS = (
    "message",
    "detail",
    "msg",
    "error_msg",
    "error_message",
    "errorMessage",
    "status_msg",
)
# Those of them that only errors have.
_ERROR_TEXT_FIELDS = ("detail", "error_msg", "error_message", "errorMessage")
# Codes and types of objects in a stream that report no error, such as the progress of a request.
_SUCCESS_CODES = (0, 200, "0", "200", "success", "ok")
_NOTICE_TYPES = ("ping", "heartbeat", "keepalive", "keep-alive", "status", "info", "progress")


def parse_message(parsed: Any) -> tuple[str, JsonObject]:
    """Return the text and the error object of an error body in any known shape."""
    if isinstance(parsed, list) and len(parsed) == 1:
        # Gemini's shape.
        return parse_message(parsed[0])
    if not isinstance(parsed, dict):
        return _to_text(parsed), {}
    error = parsed.get("error") or _get_first_error(parsed)
    if isinstance(error, dict):
        return _parse_error_object(_get_outer_delays(parsed) | error)
    status = _parse_minimax_status(parsed)
    if not error and status is not None:
        return status
    return _to_text(error or _get_text(parsed)), parsed


def find_error(response: JsonObject) -> tuple[str, JsonObject] | None:
    """Return the text and the error object of a complete response with status 200.

    Returns None if it reports no error. Some servers return every error with status 200.
    """
    return _find_error(response, _has_error_text)


def find_chunk_error(chunk: JsonObject) -> tuple[str, JsonObject] | None:
    """Return the text and the error object of a chunk of a stream; None if it reports no error.

    Some servers put the bodies of their HTTP errors into chunks. Others send chunks with a text
    about the progress of the request, so a text alone is no error.
    """
    return _find_error(chunk, _has_sign_of_error)


def _find_error(
    response: JsonObject, is_error: Callable[[JsonObject], bool]
) -> tuple[str, JsonObject] | None:
    """Return the error of an object. `is_error` checks objects of unknown format."""
    if response.get("error"):
        return parse_message(response)
    status = _parse_minimax_status(response)
    if status is not None or response.get("choices"):
        return status
    is_failure = (
        response.get("object") == "error"
        or response.get("type") == "error"
        or response.get("success") is False
        or _get_first_error(response) is not None
    )
    if is_failure or (is_error(response) and not _is_notice(response)):
        return parse_message(response)
    return None


def _parse_error_object(error: JsonObject) -> tuple[str, JsonObject]:
    texts = [_get_text(error)]
    # OpenRouter's shape, with the text of the provider.
    metadata = error.get("metadata")
    if isinstance(metadata, dict):
        texts.append(metadata.get("raw"))
    text = ": ".join(_to_text(text) for text in texts if text)
    reasons = _describe_misalignment(error)
    return (f"{text} ({reasons})" if reasons else text), error


def _describe_misalignment(error: JsonObject) -> str:
    """Return OpenAI's reasons for a `misalignment_policy_violation`, on which the user can act."""
    misalignment = error.get("misalignment")
    if not isinstance(misalignment, dict):
        return ""
    steer = misalignment.get("steer")
    hint = steer.get("message") if isinstance(steer, dict) else steer
    sentences = [_to_text(text) for text in (misalignment.get("detailed_explanation"), hint)]
    reasons = [_to_text(misalignment.get("error_type")), " ".join(filter(None, sentences))]
    return ": ".join(filter(None, reasons))


def _get_outer_delays(parsed: JsonObject) -> JsonObject:
    """Return the fields about a retry that some gateways put beside the error object."""
    prefixes = ("retry", "reset")
    return {name: value for name, value in parsed.items() if name.lower().startswith(prefixes)}


def _get_text(record: JsonObject) -> Any:
    for name in _TEXT_FIELDS:
        if record.get(name):
            return record[name]
    return None


def _has_error_text(response: JsonObject) -> bool:
    # Ollama's own API has an object in `message`.
    text = _get_text(response)
    return isinstance(text, str) or (text is not None and text is response.get("detail"))


def _has_sign_of_error(chunk: JsonObject) -> bool:
    """Return whether a chunk has an error text, and its name or another member shows the error."""
    if not _has_error_text(chunk):
        return False
    return any(chunk.get(name) for name in _ERROR_TEXT_FIELDS) or has_error_code(chunk)


def _is_notice(response: JsonObject) -> bool:
    return (
        response.get("success") is True
        or response.get("code") in _SUCCESS_CODES
        or response.get("type") in _NOTICE_TYPES
        or str(response.get("object")).startswith("chat.completion")
    )


def _get_first_error(response: JsonObject) -> JsonObject | None:
    """Return the first error of Cloudflare's list."""
    errors = response.get("errors")
    if not isinstance(errors, list) or not errors or not isinstance(errors[0], dict):
        return None
    return errors[0]


def _parse_minimax_status(response: JsonObject) -> tuple[str, JsonObject] | None:
    """Return the text and the error object of MiniMax's `base_resp` if it reports an error."""
    status = response.get("base_resp")
    if not isinstance(status, dict) or not status.get("status_code"):
        return None
    code = status["status_code"]
    error = {"code": get_minimax_status(code), "type": f"status_code {code}"}
    return _to_text(status.get("status_msg")), error


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return dumps(value).decode()


# The texts of nginx, Go and Apache, in this order, for a plain HTTP request to a TLS port.
TLS_PORT = re.compile(
    r"HTTP request (?:was sent )?to (?:an )?HTTPS (?:port|server)"
    r"|plain HTTP to an SSL-enabled server port",
    re.IGNORECASE,
)


def parse_plain_text(body: bytes) -> str:
    """Return the text of a response that is not JSON.

    For an HTML page, return only the part about TLS, else nothing.
    """
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    tls_match = TLS_PORT.search(text[:MAX_PAGE_SEARCHED])
    if tls_match is None:
        return ""
    return tls_match[0]


def parse_count(match: re.Match[str]) -> int:
    """Return the number in the first matching group, or 0 if it has more than 15 digits.

    `int` raises ValueError for thousands of digits.
    """
    digits: str = next(group for group in match.groups() if group)
    if len(digits) > _MAX_COUNT_DIGITS:
        return 0
    return int(digits)


def drop_thousands_separators(text: str) -> str:
    """Replace numbers such as 128,000 and 128_000 by their digits."""
    return _THOUSANDS_SEPARATOR.sub("", text)
