"""Parse errors of upstreams, and map them to errors for the client.

The client gets the matching status and the upstream's text without secrets. Clients act on both:
Claude Code compacts the conversation on "prompt is too long", starts a new login on 401, and hides
the text of a 404. The first matching rule in `_RULES` determines the error. Without a match,
`_STATUS_BY_UPSTREAM_STATUS` determines the status.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anthropic_proxy.errors import ApiError, UnusableResponseError, build_retry_headers
from anthropic_proxy.providers.base_url import strip_version
from anthropic_proxy.translate import error_wordings as wordings
from anthropic_proxy.translate.context_overflow import is_context_overflow, parse_context_sizes
from anthropic_proxy.translate.error_codes import find_status
from anthropic_proxy.translate.retry_delay import find_retry_delay, list_details
from anthropic_proxy.translate.upstream_failure import (
    MAX_PAGE_SEARCHED,
    MAX_TEXT_LENGTH,
    TLS_PORT,
    UpstreamFailure,
    UpstreamIdentity,
    contains_image,
    drop_thousands_separators,
    find_chunk_error,
    find_error,
    parse_message,
    parse_plain_text,
)
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object, loads_received

_OVERLOADED_RETRY_AFTER = "2"

# For failures that retries cannot fix. Claude Code would retry an invalid key for three minutes.
_NO_RETRY_HEADERS = {"x-should-retry": "false"}


class UpstreamFailureError(ApiError):
    """The client's error for an upstream failure.

    It contains the failure, because a changed request may succeed (see `translate/adaptation`).
    """

    def __init__(self, error: ApiError, failure: UpstreamFailure) -> None:
        headers = error.headers
        if failure.headers.get("x-should-retry", "").lower() == "false":
            headers = headers | _NO_RETRY_HEADERS
        super().__init__(error.status, error.message, headers, error.details)
        self.failure = failure
        self.upstream_status = failure.status
        # OpenRouter's 404 for a request that none of its endpoints supports becomes 400.
        self.concerns_target = error.status not in _REQUEST_STATUSES or failure.status == 404

    @property
    def is_policy_violation(self) -> bool:
        """True if the code of the error shows that the upstream refuses the content."""
        return self.status == 400 and wordings.has_policy_code(self.failure)

    @property
    def concerns_key(self) -> bool:
        """True if another key of the upstream may be accepted, and this one is not usable now."""
        failure = self.failure
        if self.status in (402, 429):
            # A request that is larger than the limit of a minute fails with every key.
            return not wordings.exceeds_rate_alone(failure)
        if not self.concerns_target or not wordings.is_rejected_key(failure):
            return False
        is_about_place = wordings.is_about_location(failure) or is_html_page(failure.headers)
        return self.status != 404 and (failure.status != 403 or not is_about_place)


# Statuses for the client that state a problem of the request.
_REQUEST_STATUSES = frozenset({400, 413})


def needs_mapping(failure: UpstreamFailure) -> bool:
    """Return whether clients would not recognize an error in the format of the Messages API.

    Servers that implement this API use their own texts for a context overflow. MiniMax returns 500
    for spent credit, which clients retry.
    """
    if is_context_overflow(failure):
        return _API_OVERFLOW_TEXTS.search(failure.text) is None
    return failure.status == 500 and wordings.is_spent_credit(failure)


def parse_chunk_error(chunk: JsonObject, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error in a stream chunk; None if there is none."""
    if chunk.get("choices") and not chunk.get("error") and "base_resp" not in chunk:
        # A fast path for most chunks.
        return None
    error = find_chunk_error(chunk)
    return None if error is None else _build_success_error(*error, upstream)


def parse_response_error(
    response: JsonObject, upstream: UpstreamIdentity
) -> UpstreamFailureError | None:
    """Return the error in a complete response with status 200; None if there is none."""
    error = find_error(response)
    return None if error is None else _build_success_error(*error, upstream)


def parse_error_data(data: bytes, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error in a body with status 200, which is JSON or plain text.

    Returns None for a web page, and for an object that reports success or no error.
    """
    parsed = _parse_error_body(data)
    if isinstance(parsed, dict) and find_error(parsed) is None:
        return None
    return _build_text_error(parsed, upstream)


def parse_error_event(data: bytes, upstream: UpstreamIdentity) -> UpstreamFailureError:
    """Return the error in the data of a stream event that is named `error`."""
    error = _build_text_error(_parse_error_body(data), upstream)
    return error or _build_success_error("", {}, upstream)


def _parse_error_body(data: bytes) -> Any:
    """Return the JSON value or the plain text. A list of one value (Gemini) is the value."""
    try:
        parsed = loads_received(data)
    except ValueError:
        return parse_plain_text(data)
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 else parsed


def _build_text_error(parsed: Any, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error for an object or a text; None if it contains no text."""
    if not parsed or not isinstance(parsed, str | dict):
        return None
    text, error = parse_message(parsed)
    return _build_success_error(text, error, upstream) if text else None


def parse_body_error(body: bytes, upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a body with status 200 that is not a JSON object."""
    return parse_error_data(body, upstream) or not_a_completion_error(upstream)


def parse_stray_error(text: bytes, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error if a text outside of the events of a stream is the JSON of an error."""
    parsed = loads_object(text)
    return None if parsed is None else parse_chunk_error(parsed, upstream)


def _build_success_error(
    text: str, error: JsonObject, upstream: UpstreamIdentity
) -> UpstreamFailureError:
    """Return the client's error for an error within a response with status 200."""
    has_reason = bool(text)
    if not has_reason:
        text = f"The upstream {upstream.name} aborted the response without an error message"
    status = find_status(error, text)
    failure = UpstreamFailure(
        status, text[:MAX_TEXT_LENGTH], error, {}, upstream, has_reason=has_reason
    )
    return to_api_error(failure)


_HTML_TYPE = re.compile(r"\s*(?:text/html|application/xhtml\+xml)\b", re.IGNORECASE)


def is_html_page(headers: Mapping[str, str]) -> bool:
    """Return whether a response is an HTML page, which is never an API response."""
    return _HTML_TYPE.match(headers.get("content-type", "")) is not None


def wants_tls(body: bytes) -> bool:
    """Return whether a response with status 400 states that the port accepts only TLS."""
    return TLS_PORT.search(body[:MAX_PAGE_SEARCHED].decode("utf-8", "replace")) is not None


def html_page_error(upstream: UpstreamIdentity) -> ApiError:
    """Return the error for an HTML page with status 200."""
    text = (
        f"The upstream {upstream.name} returned an HTML page: it is not an OpenAI-compatible API. "
        "Check UPSTREAM_BASE_URL"
    )
    return UnusableResponseError(text, _NO_RETRY_HEADERS)


def not_a_completion_error(upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a response with status 200 that is not a chat completion."""
    text = (
        f"The upstream {upstream.name} returned status 200 and a body that is not a chat completion"
    )
    return UnusableResponseError(text)


def to_api_error(failure: UpstreamFailure) -> UpstreamFailureError:
    """Map an upstream failure to the error for the client."""
    return UpstreamFailureError(_map_failure(failure), failure)


def add_payload(error: UpstreamFailureError, payload: bytes) -> UpstreamFailureError:
    """Return the error for the same failure of a request whose body is known."""
    return to_api_error(replace(error.failure, has_image=contains_image(payload)))


def _map_failure(failure: UpstreamFailure) -> ApiError:
    for rule in _RULES:
        error = rule(failure)
        if error is not None:
            return error
    status = 400 if 400 <= failure.status < 500 else 500
    status = _STATUS_BY_UPSTREAM_STATUS.get(failure.status, status)
    return ApiError(status, failure.redacted_text)


# Statuses of failures that no rule matches. Other 4xx become 400, other 5xx 500.
# 410: a retired model. 423, 424, 425 and 499: a failure behind the upstream.
_STATUS_BY_UPSTREAM_STATUS = {
    404: 404,
    408: 504,
    409: 409,
    410: 404,
    413: 413,
    423: 500,
    424: 500,
    425: 500,
    499: 500,
    504: 504,
}


@dataclass(frozen=True)
class _ErrorRule:
    """A rule that maps failures with certain statuses and texts to one error."""

    # statuses of matching failures
    statuses: Container[int]
    # pattern in the text of matching failures
    pattern: re.Pattern[str]
    # status of the client's error
    status: int
    # format string of the client's error
    message: str = "{failure.redacted_text}"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, failure: UpstreamFailure) -> ApiError | None:
        """Return the client's error, or None if the rule does not match."""
        if failure.status not in self.statuses or not self.pattern.search(failure.searchable_text):
            return None
        return ApiError(self.status, self.message.format(failure=failure), self.headers)


# The texts of the Messages API.
_API_OVERFLOW_TEXTS = re.compile(
    r"prompt is too long|input length and `max_tokens` exceed context limit", re.IGNORECASE
)
_API_OVERFLOW = re.compile(r"prompt is too long: \d+ tokens > \d+ maximum")


def _map_context_overflow(failure: UpstreamFailure) -> ApiError | None:
    """Map a context overflow to the texts of the Messages API.

    Claude Code acts on them: it compacts the conversation or, if the prompt alone would fit, lowers
    `max_tokens`.
    """
    if not is_context_overflow(failure):
        return None
    match = _API_OVERFLOW.search(drop_thousands_separators(failure.text))
    if match:
        return ApiError(400, match[0])
    sizes = parse_context_sizes(failure)
    if not sizes.prompt or not sizes.limit:
        return ApiError(400, f"prompt is too long: {failure.redacted_text}")
    if sizes.prompt > sizes.limit:
        return ApiError(400, f"prompt is too long: {sizes.prompt} tokens > {sizes.limit} maximum")
    if not sizes.completion:
        # The numbers alone would contradict the error.
        return ApiError(400, f"prompt is too long: {failure.redacted_text}")
    text = (
        "input length and `max_tokens` exceed context limit: "
        f"{sizes.prompt} + {sizes.completion} > {sizes.limit}, "
        "decrease input length or `max_tokens` and try again"
    )
    return ApiError(400, text)


def _map_failed_generation(failure: UpstreamFailure) -> ApiError | None:
    """Map Groq's error for an invalid tool call of the model, which a retry may avoid."""
    if failure.error.get("code") != "tool_use_failed":
        return None
    return ApiError(500, failure.redacted_text)


def _map_refused_image(failure: UpstreamFailure) -> ApiError | None:
    """Map a refused image to the text on which Claude Code removes it from the conversation.

    With another text, every later turn would fail too.
    """
    if not wordings.is_refused_image(failure):
        return None
    return ApiError(400, f"Could not process image: {failure.redacted_text}")


def _map_probably_refused_image(failure: UpstreamFailure) -> ApiError | None:
    if not wordings.may_be_refused_image(failure):
        return None
    return ApiError(400, f"Could not process image: {failure.redacted_text}")


def _map_policy_violation(failure: UpstreamFailure) -> ApiError | None:
    """Map refused content, which every target and key would refuse.

    OpenAI uses status 403, and documents that clients must not retry.
    """
    if failure.status == 403:
        is_violation = wordings.is_policy_violation(failure)
    else:
        # Unknown codes in streams and complete responses have status 500.
        is_violation = failure.status == 500 and wordings.has_policy_code(failure)
    return ApiError(400, failure.redacted_text) if is_violation else None


def _map_unknown_model(failure: UpstreamFailure) -> ApiError | None:
    """Map a model that an upstream does not have to the status on which clients report it."""
    if failure.status not in (400, 403, 410, 422) or not wordings.is_unknown_model(failure):
        return None
    return ApiError(404, failure.redacted_text)


def _map_gateway_failure(failure: UpstreamFailure) -> ApiError | None:
    """Map a failure behind a gateway, which a retry or another target may avoid."""
    if failure.status not in (400, 409, 422, 424) or not wordings.is_gateway_failure(failure):
        return None
    return ApiError(500, failure.redacted_text, _build_retry_after(failure, None))


def _map_rejected_key(failure: UpstreamFailure) -> ApiError | None:
    """Map a rejected API key, and other refusals with status 403.

    If the proxy's key was rejected, a 401 would make the client start a new login, although the
    client's key is valid. Claude Code reports any 403 as a failed authentication.
    """
    if not wordings.is_rejected_key(failure):
        return None
    if failure.upstream.caller_api_key is not None:
        return ApiError(403 if failure.status == 403 else 401, failure.redacted_text)
    status = failure.status
    if status == 403 and not wordings.names_key(failure):
        action = f"refused the request ({status})"
    elif failure.upstream.has_key:
        action = f"refused the proxy's UPSTREAM_API_KEY ({status})"
    else:
        action = f"refused the request ({status}), and no UPSTREAM_API_KEY is set"
    reason = f": {failure.redacted_text}" if failure.has_reason else " without an error message"
    text = f"The upstream {failure.upstream_name} {action}{reason}"
    return ApiError(500, text, _NO_RETRY_HEADERS)


# Texts of Go, FastAPI, Spring, llama.cpp and OpenAI for an unknown path. Texts for an unknown model
# contain its name, so they do not match.
_NO_SUCH_PATH = re.compile(
    r"\s*(?:404\b[:\s]*)?(?:the )?(?:requested )?"
    r"(?:(?:page|file|path|route|url|resource|endpoint) )?(?:was )?not found[.!]?\s*"
    r"|invalid url\b.{0,200}|cannot (?:post|get) /.{0,200}",
    re.IGNORECASE | re.DOTALL,
)


def _map_missing_path(failure: UpstreamFailure) -> ApiError | None:
    """Map the 404 or 405 for a wrong base URL, which clients would show as an unknown model.

    The rule applies only to paths of conversations, because other paths, such as the list of
    models, are optional.
    """
    if failure.status not in (404, 405) or not failure.path:
        return None
    is_about_path = failure.status == 405 or not failure.has_reason
    if not is_about_path and not _NO_SUCH_PATH.fullmatch(failure.text):
        return None
    base = failure.upstream.base_url
    root = strip_version(base)
    path = base.removeprefix(root) + failure.path
    location = f" under {root}" if root else ""
    reason = f": {failure.redacted_text}" if failure.has_reason else ""
    text = (
        f"The upstream {failure.upstream_name} has no {path}{location} "
        f"({failure.status}{reason}): "
        "check UPSTREAM_BASE_URL"
    )
    return ApiError(500, text, _NO_RETRY_HEADERS)


# Spent credit at OpenAI; a limit of a minute or a day at Google and DashScope.
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)
_RATE_QUOTA = re.compile(
    r"resource_exhausted|ai\.google\.dev|per[ _-]?(minute|day)|#token-limit|\b[rt]p[md]\b",
    re.IGNORECASE,
)
# Google's models that are not in the free tier have this limit.
_ZERO_QUOTA = re.compile(r"\blimit: 0\b|\"quotaValue\":\"0\"")
_DAILY_QUOTA = re.compile(r"\"quotaId\":\"[^\"]{0,100}PerDay")


def _map_spent_credit(failure: UpstreamFailure) -> ApiError | None:
    """Map spent credit, which no retry restores, to a billing error."""
    if failure.status not in (400, 401, 402, 403, 429, 500):
        return None
    is_spent = wordings.is_spent_credit(failure)
    if not is_spent and _QUOTA.search(failure.searchable_text):
        is_spent = not _is_rate_quota(failure)
    return ApiError(402, failure.redacted_text, _NO_RETRY_HEADERS) if is_spent else None


def _is_rate_quota(failure: UpstreamFailure) -> bool:
    """Return whether an exceeded quota is a limit of a time, which ends by itself."""
    google_status = str(failure.error.get("status"))
    text = " ".join([failure.searchable_text, google_status, _dump_details(failure)])
    if _ZERO_QUOTA.search(text):
        return False
    if _RATE_QUOTA.search(text):
        return True
    return "insufficient_quota" not in failure.codes and find_retry_delay(failure) is not None


def _dump_details(failure: UpstreamFailure) -> str:
    return dumps(list_details(failure.error)).decode()[:MAX_TEXT_LENGTH]


def _map_rate_limit_of_other_status(failure: UpstreamFailure) -> ApiError | None:
    """Map a rate limit with another status than 429.

    Groq has 413 for the tokens of a minute, and Google 403 for quotas. A single request that
    exceeds the limit would fail again at any time.
    """
    if failure.status not in (400, 403, 413) or not wordings.is_rate_limit(failure):
        return None
    headers = _build_retry_after(failure, None)
    if wordings.exceeds_rate_alone(failure):
        headers = dict(_NO_RETRY_HEADERS)
    return ApiError(429, failure.redacted_text, headers)


def _map_busy(failure: UpstreamFailure) -> ApiError | None:
    # Groq returns 498 if the capacity of its flex tier is exceeded, Cloudflare 520 to 524.
    is_overloaded = failure.status in (498, 503, 529) or 520 <= failure.status <= 524
    if failure.status == 429 and "overloaded" in failure.codes:
        is_overloaded = True
    if is_overloaded:
        headers = _build_retry_after(failure, _OVERLOADED_RETRY_AFTER)
        return ApiError(529, failure.redacted_text, headers)
    if failure.status != 429:
        return None
    if _DAILY_QUOTA.search(_dump_details(failure)):
        # Google's delay is that of a minute.
        return ApiError(429, failure.redacted_text, _NO_RETRY_HEADERS)
    headers = _build_retry_after(failure, None)
    if not headers and wordings.is_long_limit(failure):
        headers = dict(_NO_RETRY_HEADERS)
    return ApiError(429, failure.redacted_text, headers)


# Statuses of a target that does not accept the proxy's requests: a method or version that it does
# not have (405, 426), an HTTP proxy that requires a login (407), a wrong host (421), and legal
# reasons (451).
_REFUSED_TARGET_STATUSES = frozenset({405, 406, 407, 421, 426, 451})


def _map_refused_target(failure: UpstreamFailure) -> ApiError | None:
    if failure.status not in _REFUSED_TARGET_STATUSES:
        return None
    reason = f": {failure.redacted_text}" if failure.has_reason else " without an error message"
    text = f"The upstream {failure.upstream_name} refused the request ({failure.status}){reason}"
    return ApiError(500, text, _NO_RETRY_HEADERS)


def _build_retry_after(failure: UpstreamFailure, default: str | None) -> dict[str, str]:
    seconds = find_retry_delay(failure)
    if seconds is not None:
        return build_retry_headers(seconds)
    if default is not None:
        return {"retry-after": default}
    return {}


_ANY_WORDING = re.compile("")

# In the order in which they run.
_RULES: tuple[Callable[[UpstreamFailure], ApiError | None], ...] = (
    _ErrorRule(
        range(300, 400),
        _ANY_WORDING,
        500,
        "The upstream {failure.upstream_name} redirects ({failure.status}): "
        "set UPSTREAM_BASE_URL to the final address",
        _NO_RETRY_HEADERS,
    ),
    _ErrorRule(
        (400,),
        TLS_PORT,
        500,
        "The upstream {failure.upstream_name} accepts only TLS (400): "
        "UPSTREAM_BASE_URL has to begin with https://",
        _NO_RETRY_HEADERS,
    ),
    _map_context_overflow,
    _map_refused_image,
    _map_failed_generation,
    _map_spent_credit,
    _map_rate_limit_of_other_status,
    _map_policy_violation,
    _map_unknown_model,
    _map_gateway_failure,
    _map_probably_refused_image,
    _map_rejected_key,
    # OpenRouter's "No endpoints found that support tool use" is about the request.
    _ErrorRule((404,), re.compile(r"\ANo endpoints found that support"), 400),
    _map_missing_path,
    _map_refused_target,
    _map_busy,
)
