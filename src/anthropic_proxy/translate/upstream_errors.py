"""Parse errors of upstreams, and map them to errors for the client.

The client gets the matching status and the upstream's text without secrets. Clients act on both:
Claude Code compacts the conversation on "prompt is too long", starts a new login on 401, and hides
the text of a 404. The first matching rule in `_RULES` determines the error. Without a match,
`_STATUS_BY_UPSTREAM_STATUS` determines the status.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.base_url import strip_version
from anthropic_proxy.translate.context_overflow import is_context_overflow, parse_context_sizes
from anthropic_proxy.translate.upstream_failure import (
    MAX_PAGE_SEARCHED,
    MAX_TEXT_LENGTH,
    TLS_PORT,
    UpstreamFailure,
    UpstreamIdentity,
    drop_thousands_separators,
    parse_failure,
    parse_message,
)
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.retry_after import parse_retry_after

# In seconds. The SDKs obey any retry-after, even weeks; Claude Code fails if it exceeds an hour.
_MAX_RETRY_AFTER = 60
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


def parse_api_error(
    status: int, headers: Mapping[str, str], body: bytes, upstream: UpstreamIdentity
) -> ApiError:
    """Return the client's error for an HTTP response with `status` >= 300."""
    return to_api_error(parse_failure(status, headers, body, upstream))


def parse_chunk_error(chunk: JsonObject, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error in a stream chunk, or None.

    The shape is `{"error": ...}`, with or without choices.
    """
    if not chunk.get("error"):
        return None
    text, error = parse_message(chunk)
    if not text:
        text = f"The upstream {upstream.name} aborted the response without an error message"
    status = _parse_chunk_status(error)
    return to_api_error(UpstreamFailure(status, text[:MAX_TEXT_LENGTH], error, {}, upstream))


def _parse_chunk_status(error: JsonObject) -> int:
    code = str(error.get("code"))
    if re.fullmatch(r"[45]\d\d", code):
        return int(code)
    # The types of OpenAI and vLLM.
    if error.get("type") in ("invalid_request_error", "BadRequestError"):
        return 400
    return 500


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


# The text of the Messages API.
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


_BAD_KEY = re.compile(r"(incorrect|invalid) api key", re.IGNORECASE)


def _map_rejected_key(failure: UpstreamFailure) -> ApiError | None:
    """Map a rejected API key.

    If the proxy's key was rejected, a 401 would make the client start a new login, although the
    client's key is valid.
    """
    is_bad_request = failure.status == 400 and _BAD_KEY.search(failure.text)
    if failure.status not in (401, 403) and not is_bad_request:
        return None
    if failure.upstream.caller_api_key is not None:
        return ApiError(403 if failure.status == 403 else 401, failure.redacted_text)
    if failure.upstream.has_key:
        action = f"refused the proxy's UPSTREAM_API_KEY ({failure.status})"
    else:
        action = f"refused the request ({failure.status}), and no UPSTREAM_API_KEY is set"
    text = f"The upstream {failure.upstream_name} {action}: {failure.redacted_text}"
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


def _map_busy(failure: UpstreamFailure) -> ApiError | None:
    if failure.status == 429:
        return ApiError(429, failure.redacted_text, _build_retry_after(failure, None))
    # Cloudflare returns 520 to 524.
    if failure.status in (503, 529) or 520 <= failure.status <= 524:
        headers = _build_retry_after(failure, _OVERLOADED_RETRY_AFTER)
        return ApiError(529, failure.redacted_text, headers)
    return None


def _build_retry_after(failure: UpstreamFailure, default: str | None) -> dict[str, str]:
    seconds = parse_retry_after(failure.headers)
    if seconds is not None:
        return {"retry-after": f"{min(seconds, _MAX_RETRY_AFTER):g}"}
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
    _ErrorRule((402,), _ANY_WORDING, 402, headers=_NO_RETRY_HEADERS),
    _ErrorRule(
        (403, 429),
        re.compile(
            r"insufficient_quota|exceeded your current quota|insufficient (credits|balance)",
            re.IGNORECASE,
        ),
        402,
        headers=_NO_RETRY_HEADERS,
    ),
    _ErrorRule((403,), re.compile(r"moderation|flagged", re.IGNORECASE), 400),
    _map_rejected_key,
    # OpenRouter's "No endpoints found that support tool use" is about the request.
    _ErrorRule((404,), re.compile(r"\ANo endpoints found that support"), 400),
    _map_missing_path,
    _map_busy,
)
