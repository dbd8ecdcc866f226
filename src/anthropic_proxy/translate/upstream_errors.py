"""Parse errors of upstreams, and map them to errors for the client.

The client gets the matching status and the upstream's text without secrets. Clients act on both:
Claude Code compacts the conversation on "prompt is too long", starts a new login on 401, and hides
the text of a 404. The first matching rule in `_RULES` determines the error. Without a match,
`_STATUS_BY_UPSTREAM_STATUS` determines the status.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.errors import ApiError, build_retry_headers
from anthropic_proxy.providers.base_url import strip_version
from anthropic_proxy.translate.context_overflow import is_context_overflow, parse_context_sizes
from anthropic_proxy.translate.error_codes import find_status
from anthropic_proxy.translate.retry_delay import find_retry_delay, list_details
from anthropic_proxy.translate.upstream_failure import (
    MAX_PAGE_SEARCHED,
    MAX_TEXT_LENGTH,
    TLS_PORT,
    UpstreamFailure,
    UpstreamIdentity,
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
        super().__init__(error.status, error.message, error.headers, error.details)
        self.failure = failure
        self.upstream_status = failure.status


def needs_mapping(failure: UpstreamFailure) -> bool:
    """Return whether clients would not recognize an error in the format of the Messages API.

    Servers that implement this API use their own texts for a context overflow. MiniMax returns 500
    for spent credit, which clients retry.
    """
    if is_context_overflow(failure):
        return _API_OVERFLOW_TEXTS.search(failure.text) is None
    return failure.status == 500 and _NO_CREDIT.search(failure.text) is not None


def parse_chunk_error(chunk: JsonObject, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error in a stream chunk; None if there is none."""
    if chunk.get("choices") and not chunk.get("error") and "base_resp" not in chunk:
        # A fast path for most chunks.
        return None
    found = find_chunk_error(chunk)
    return None if found is None else _build_success_error(*found, upstream)


def parse_response_error(
    response: JsonObject, upstream: UpstreamIdentity
) -> UpstreamFailureError | None:
    """Return the error in a complete response with status 200; None if there is none."""
    found = find_error(response)
    return None if found is None else _build_success_error(*found, upstream)


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
    if not text:
        text = f"The upstream {upstream.name} aborted the response without an error message"
    status = find_status(error, text)
    return to_api_error(UpstreamFailure(status, text[:MAX_TEXT_LENGTH], error, {}, upstream))


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
    return ApiError(500, text, _NO_RETRY_HEADERS)


def not_a_completion_error(upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a response with status 200 that is not a chat completion."""
    text = (
        f"The upstream {upstream.name} returned status 200 and a body that is not a chat completion"
    )
    return ApiError(500, text)


def to_api_error(failure: UpstreamFailure) -> UpstreamFailureError:
    """Map an upstream failure to the error for the client."""
    for rule in _RULES:
        error = rule(failure)
        if error is not None:
            return UpstreamFailureError(error, failure)
    status = 400 if 400 <= failure.status < 500 else 500
    status = _STATUS_BY_UPSTREAM_STATUS.get(failure.status, status)
    return UpstreamFailureError(ApiError(status, failure.redacted_text), failure)


# Statuses of failures that no rule matches. Other 4xx become 400, other 5xx 500.
_STATUS_BY_UPSTREAM_STATUS = {404: 404, 408: 504, 409: 409, 413: 413, 504: 504}


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


# Texts of OpenAI, Google and DashScope, which also have status 400.
_BAD_KEY = re.compile(
    r"(incorrect|invalid)[ _]?api[ _]?key|api[ _]?key[ _](is )?(not valid|invalid|expired)",
    re.IGNORECASE,
)
# Other servers refuse regions, plans and models with 403.
_ABOUT_KEY = re.compile(
    r"api[ _-]?key|\bkeys?\b|credential|unauthori[sz]ed|authenticat"
    r"|token (is )?(invalid|expired)|(access|bearer|auth|invalid|expired)[ _]token",
    re.IGNORECASE,
)


def _map_rejected_key(failure: UpstreamFailure) -> ApiError | None:
    """Map a rejected API key, and other refusals with status 403.

    If the proxy's key was rejected, a 401 would make the client start a new login, although the
    client's key is valid. Claude Code reports any 403 as a failed authentication.
    """
    is_bad_request = failure.status == 400 and _BAD_KEY.search(failure.searchable_text)
    if failure.status not in (401, 403) and not is_bad_request:
        return None
    if failure.upstream.caller_api_key is not None:
        return ApiError(403 if failure.status == 403 else 401, failure.redacted_text)
    status = failure.status
    if status == 403 and not _ABOUT_KEY.search(failure.searchable_text):
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
    """Map the 404 for a wrong base URL, which clients would show as an unknown model.

    The rule applies only to paths of conversations, because other paths, such as the list of
    models, are optional.
    """
    if failure.status != 404 or not failure.path:
        return None
    if failure.has_reason and not _NO_SUCH_PATH.fullmatch(failure.text):
        return None
    base = failure.upstream.base_url
    root = strip_version(base)
    path = base.removeprefix(root) + failure.path
    location = f" under {root}" if root else ""
    reason = f": {failure.redacted_text}" if failure.has_reason else ""
    text = (
        f"The upstream {failure.upstream_name} has no {path}{location} (404{reason}): "
        "check UPSTREAM_BASE_URL"
    )
    return ApiError(500, text, _NO_RETRY_HEADERS)


# Spent credit in the texts and codes of OpenRouter, DeepSeek, xAI, Anthropic, DashScope, OpenAI,
# Volcengine, Moonshot, MiniMax and one-api.
_NO_CREDIT = re.compile(
    r"insufficient[ _](credits?|balance|funds|user_quota)"
    r"|balance is (too low|insufficient)"
    r"|n[o']t? (have )?(any |enough |sufficient )?(remaining )?credits?\b|out of credits?\b"
    r"|(used|spent) all .{0,60}credits?\b|credits?[ _](are |is |have been )?(exhausted|depleted)"
    r"|spend(ing)? limit|arrearage|account is in good standing|account_?overdue|overdue balance"
    r"|billing_hard_limit|billing_not_active|exceeded_current_quota|no payment method"
    r"|free_?tier_?only|free tier .{0,60}exhausted|余额不足|欠费",
    re.IGNORECASE,
)
# Spent credit at OpenAI; a limit of a minute or a day at Google and DashScope.
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)
_RATE_QUOTA = re.compile(
    r"resource_exhausted|ai\.google\.dev|per[ _-]?(minute|day)|#token-limit|\b[rt]p[md]\b",
    re.IGNORECASE,
)
# Google's models that are not in the free tier have this limit.
_ZERO_QUOTA = re.compile(r"\blimit: 0\b|\"quotaValue\":\"0\"")
_DAILY_QUOTA = re.compile(r"\"quotaId\":\"[^\"]{0,100}PerDay")
_RATE_LIMIT = re.compile(
    r"\brate[ _-]?limit|\b(tokens|requests) per (min|sec|hour|day)|too many requests|throttl",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)


def _map_spent_credit(failure: UpstreamFailure) -> ApiError | None:
    """Map spent credit, which no retry restores, to a billing error."""
    if failure.status not in (400, 401, 402, 403, 429, 500):
        return None
    text = failure.searchable_text
    is_spent = failure.status == 402 or _NO_CREDIT.search(text) is not None
    if not is_spent and _QUOTA.search(text):
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


def _map_rate_limit_of_bad_request(failure: UpstreamFailure) -> ApiError | None:
    """Map a rate limit with another status, such as Groq's 413 for the tokens of a minute.

    A single request that exceeds the limit would fail again at any time.
    """
    if failure.status not in (400, 413) or not _RATE_LIMIT.search(failure.searchable_text):
        return None
    headers = _build_retry_after(failure, None)
    if _TOO_LARGE.search(failure.text):
        headers = dict(_NO_RETRY_HEADERS)
    return ApiError(429, failure.redacted_text, headers)


def _map_busy(failure: UpstreamFailure) -> ApiError | None:
    is_overloaded = failure.status in (503, 529) or 520 <= failure.status <= 524
    if failure.status == 429 and "overloaded" in failure.codes:
        is_overloaded = True
    if is_overloaded:
        # Cloudflare returns 520 to 524.
        headers = _build_retry_after(failure, _OVERLOADED_RETRY_AFTER)
        return ApiError(529, failure.redacted_text, headers)
    if failure.status != 429:
        return None
    if _DAILY_QUOTA.search(_dump_details(failure)):
        # Google's delay is that of a minute.
        return ApiError(429, failure.redacted_text, _NO_RETRY_HEADERS)
    return ApiError(429, failure.redacted_text, _build_retry_after(failure, None))


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
    # On "Could not process image" Claude Code removes the image from the conversation. With another
    # text, every later turn would fail too.
    _ErrorRule(
        (400, 404, 415, 422, 500),
        re.compile(
            r"image input is not supported|not a multimodal model|support (image|vision)"
            r"|invalid[ _]image|image_url.{0,60}(not|only) supported|unknown variant `image_url`"
            r"|image.{0,40}(could not|cannot|can't|unable to|failed to) be?"
            r" ?(process|decode|load|read)"
            r"|(could not|cannot|can't|unable to|failed to)"
            r" (process|decode|load|read|parse|download).{0,20}image"
            r"|mmproj|does not support vision",
            re.IGNORECASE,
        ),
        400,
        "Could not process image: {failure.redacted_text}",
    ),
    _map_failed_generation,
    _map_spent_credit,
    _ErrorRule((403,), re.compile(r"moderation|flagged", re.IGNORECASE), 400),
    _map_rejected_key,
    # OpenRouter's "No endpoints found that support tool use" is about the request.
    _ErrorRule((404,), re.compile(r"\ANo endpoints found that support"), 400),
    _map_missing_path,
    _map_rate_limit_of_bad_request,
    _map_busy,
)
