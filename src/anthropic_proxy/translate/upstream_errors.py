"""Map an upstream's error to the error for the caller: right status, the upstream's words, no key.

Clients act on status and words: Claude Code compacts the conversation when it reads "prompt is too long", asks for a new
login on 401 and hides the text of a 404. So the rules below run in order, and the first that fits decides; what none
fits keeps its status.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import MAX_SEARCHED, NO_SECRETS, Redactor, Secret
from anthropic_proxy.providers.base_url import strip_version
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_received
from anthropic_proxy.wire.retry_after import parse_retry_after

# Seconds. The SDKs obey a retry-after of weeks; Claude Code gives up at an hour.
MAX_RETRY_AFTER = 60
_OVERLOADED_RETRY_AFTER = "2"
_TEXT_LIMIT = 2000
_CODE_LIMIT = 200
_MAX_COUNT_DIGITS = 15

# Retrying can't help: without this Claude Code retries a dead credential for three minutes.
_NO_RETRY_HEADERS = {"x-should-retry": "false"}


@dataclass(frozen=True)
class UpstreamIdentity:
    """The upstream that sent a response."""

    # As callers know it.
    name: str
    redactor: Redactor = NO_SECRETS
    # The caller's own key, where it was sent to the upstream in place of the proxy's.
    caller_key: str | None = None
    # Whether the upstream is sent a key or another credential.
    has_key: bool = True
    # The base URL of its API; empty where callers must not see it.
    base_url: str = ""

    def redact_beginning(self, text: str) -> str:
        """Return the beginning of a text, without secrets and private addresses."""
        if self.caller_key:
            text = Redactor([Secret(self.caller_key)]).redact_beginning(text)
        return self.redactor.redact_beginning(text)

    def redact(self, text: str) -> str:
        """Return the whole text, without secrets and private addresses."""
        if self.caller_key:
            text = Redactor([Secret(self.caller_key)]).redact(text)
        return self.redactor.redact(text)


@dataclass(frozen=True)
class UpstreamFailure:
    """An error that an upstream reported. Rules read `text`; callers, logs and spans get `redacted_text`."""

    status: int
    # As the upstream wrote it, with the secrets that it may repeat: its beginning, as `_build_failure` cuts it.
    text: str
    # The machine-readable error object.
    error: JsonObject
    headers: Mapping[str, str]
    upstream: UpstreamIdentity
    # To which a conversation was sent, below the base URL; empty for other requests.
    path: str = ""
    # Whether the upstream said anything.
    has_reason: bool = True

    @property
    def upstream_name(self) -> str:
        """Its name."""
        return self.upstream.name

    @cached_property
    def redacted_text(self) -> str:
        """The text without secrets, at most _TEXT_LIMIT characters."""
        return self.upstream.redact_beginning(self.text)[:_TEXT_LIMIT]

    @property
    def searchable_text(self) -> str:
        """Words and codes in one string, to be searched. It is cut, as some patterns are slow on long texts."""
        codes = (str(self.error.get(name) or "")[:_CODE_LIMIT] for name in ("code", "type"))
        return " ".join((self.text, *codes))


class UpstreamFailureError(ApiError):
    """The caller's error for an upstream failure, which it holds: a changed request may avoid it (see adaptation)."""

    def __init__(self, error: ApiError, failure: UpstreamFailure) -> None:
        super().__init__(error.status, error.message, error.headers, error.details)
        self.failure = failure
        self.upstream_status = failure.status


def parse_api_error(
    status: int, headers: Mapping[str, str], body: bytes, upstream: UpstreamIdentity
) -> ApiError:
    """Return the error for an HTTP response of `status` >= 300."""
    return to_api_error(parse_failure(status, headers, body, upstream))


def parse_failure(
    status: int, headers: Mapping[str, str], body: bytes, upstream: UpstreamIdentity, path: str = ""
) -> UpstreamFailure:
    """Parse an HTTP response of `status` >= 300. `path`: as in UpstreamFailure."""
    try:
        text, error = _parse_message(loads_received(body))
    except ValueError:
        text, error = _parse_plain_text(body), {}
    message = text or f"The upstream {upstream.name} answered {status} without a reason"
    return replace(
        _build_failure(status, message, error, headers, upstream), path=path, has_reason=bool(text)
    )


def is_html_page(headers: Mapping[str, str]) -> bool:
    """Return whether a response is an HTML page, which no API sends."""
    return bool(
        re.match(
            r"\s*(?:text/html|application/xhtml\+xml)\b",
            headers.get("content-type", ""),
            re.IGNORECASE,
        )
    )


def wants_tls(body: bytes) -> bool:
    """Return whether a response of status 400 says that the port takes TLS only."""
    return bool(_TLS_PORT.search(body[:_MAX_PAGE_SEARCHED].decode("utf-8", "replace")))


def html_page_error(upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a response of status 200 that is an HTML page."""
    text = f"The upstream {upstream.name} answered text/html: that is no OpenAI-compatible API. Check UPSTREAM_BASE_URL"
    return ApiError(500, text, _NO_RETRY_HEADERS)


def not_a_completion_error(upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a response of status 200 that is no completion."""
    return ApiError(
        500, f"The upstream {upstream.name} answered 200 with something that is no chat completion"
    )


def parse_chunk_error(chunk: JsonObject, upstream: UpstreamIdentity) -> UpstreamFailureError | None:
    """Return the error of a stream chunk (`{"error": ...}`, with or without choices), None without one."""
    if not chunk.get("error"):
        return None
    text, error = _parse_message(chunk)
    code = str(error.get("code"))
    status = (
        int(code)
        if re.fullmatch(r"[45]\d\d", code)
        else 400
        if error.get("type") in _BAD_REQUEST
        else 500
    )
    message = text or f"The upstream {upstream.name} broke off the answer without a reason"
    return to_api_error(_build_failure(status, message, error, {}, upstream))


def _build_failure(
    status: int,
    text: str,
    error: JsonObject,
    headers: Mapping[str, str],
    upstream: UpstreamIdentity,
) -> UpstreamFailure:
    # A character more than is searched shows that the text was cut.
    return UpstreamFailure(status, text[: MAX_SEARCHED + 1], error, headers, upstream)


def _parse_message(parsed: Any) -> tuple[str, JsonObject]:
    """Return text and error object of an error body, in any of the shapes that servers use."""
    if isinstance(parsed, list) and len(parsed) == 1:
        # Gemini's.
        return _parse_message(parsed[0])
    if not isinstance(parsed, dict):
        return _to_text(parsed), {}
    error = parsed.get("error")
    if isinstance(error, dict):
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        return ": ".join(_to_text(each) for each in (error.get("message"), raw) if each), error
    return _to_text(error or parsed.get("detail") or parsed.get("message")), parsed


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value).decode()


# The words of nginx, Go and Apache, in this order, for a request without TLS on a port for TLS.
_TLS_PORT = re.compile(
    r"HTTP request (?:was sent )?to (?:an )?HTTPS (?:port|server)|plain HTTP to an SSL-enabled server port",
    re.IGNORECASE,
)
_MAX_PAGE_SEARCHED = 4096


def _parse_plain_text(body: bytes) -> str:
    """Return the text of a plain text response; an HTML page has no text of use to callers."""
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    tls_match = _TLS_PORT.search(text[:_MAX_PAGE_SEARCHED])
    return tls_match[0] if tls_match else ""


def to_api_error(failure: UpstreamFailure) -> UpstreamFailureError:
    """Map an upstream failure to the error for the caller."""
    error = next(filter(None, (rule(failure) for rule in _RULES)), None) or _default_error(failure)
    return UpstreamFailureError(error, failure)


def _default_error(failure: UpstreamFailure) -> ApiError:
    return ApiError(
        _STATUS_BY_UPSTREAM_STATUS.get(failure.status, 400 if 400 <= failure.status < 500 else 500),
        failure.redacted_text,
    )


CONTEXT_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|too_many_prompt_tokens|maximum context length|max context length"
    r"|exceeds the (available )?context|prompt (is )?too long|total length of all messages is too long"
    r"|reduce the length of the messages|input is too long|input token count .{0,200} exceeds"
    r"|greater than the context length|context length of only"
    r"|`inputs` (tokens \+ `max_new_tokens` must be|must have less than)",
    re.IGNORECASE,
)
_API_WORDING = re.compile(r"prompt is too long: \d+ tokens > \d+ maximum")
_CONTEXT_LIMIT = re.compile(
    r"context (?:length|window) (?:is|of)(?: only)? (\d+)|context size \((\d+)|model with (\d+) maximum context"
    r"|`max_new_tokens` must be <= (\d+)",
    re.IGNORECASE,
)
_PROMPT_LENGTH = re.compile(
    r"request has (\d+) input tokens"
    r"|requested (?:about )?\d+ tokens \((\d+) (?:in the messages|of text input)|resulted in (\d+) tokens"
    r"|contains at least (\d+)|request \((\d+) tokens|total of \d+ tokens: (\d+)|prompt contains (\d+) tokens"
    r"|keep the first (\d+) tokens|given: (\d+)|requested (?:about )?(\d+) tokens",
    re.IGNORECASE,
)
_COMPLETION_LENGTH = re.compile(
    r"(\d+) (?:in|tokens for) the completion|is too large: (\d+)|(\d+) `max_new_tokens`"
)
_THOUSANDS_SEPARATOR = re.compile(r"(?<=\d)[,_](?=\d{3})")


@dataclass(frozen=True)
class ContextSizes:
    """What a context overflow says, in tokens: prompt, limit of the context, asked completion; 0 where it says nothing."""

    prompt: int = 0
    limit: int = 0
    completion: int = 0


def parse_context_sizes(failure: UpstreamFailure) -> ContextSizes:
    """Parse the sizes in a context overflow; all 0 for any other failure."""
    if failure.status not in (400, 413, 422, 500) or not CONTEXT_OVERFLOW.search(
        failure.searchable_text
    ):
        return ContextSizes()
    text = drop_thousands_separators(failure.text)
    prompt = _int_or_zero(failure.error.get("n_prompt_tokens")) or _search_count(
        _PROMPT_LENGTH, text
    )
    limit = _int_or_zero(failure.error.get("n_ctx")) or _search_count(_CONTEXT_LIMIT, text)
    return ContextSizes(prompt, limit, _search_count(_COMPLETION_LENGTH, text))


def _context_overflow(failure: UpstreamFailure) -> ApiError | None:
    """In the real API's words, on which Claude Code compacts or, when only the answer is too long, asks for less."""
    if failure.status not in (400, 413, 422, 500) or not CONTEXT_OVERFLOW.search(
        failure.searchable_text
    ):
        return None
    match = _API_WORDING.search(drop_thousands_separators(failure.text))
    if match:
        return ApiError(400, match[0])
    sizes = parse_context_sizes(failure)
    if not sizes.prompt or not sizes.limit:
        return ApiError(400, f"prompt is too long: {failure.redacted_text}")
    if sizes.completion and sizes.prompt <= sizes.limit:
        comparison = f"{sizes.prompt} + {sizes.completion} > {sizes.limit}"
        return ApiError(
            400,
            f"input length and `max_tokens` exceed context limit: {comparison}, "
            "decrease input length or `max_tokens` and try again",
        )
    return ApiError(400, f"prompt is too long: {sizes.prompt} tokens > {sizes.limit} maximum")


_IMAGE = re.compile(
    r"image input is not supported|not a multimodal model|support (image|vision)|invalid[ _]image"
    r"|image_url.{0,60}(not|only) supported"
    r"|unknown variant `image_url`|image.{0,40}(could not|cannot|can't|unable to|failed to) be? ?(process|decode|load|read)"
    r"|(could not|cannot|can't|unable to|failed to) (process|decode|load|read|parse|download).{0,20}image"
    r"|mmproj|does not support vision",
    re.IGNORECASE,
)


def _bad_image(failure: UpstreamFailure) -> ApiError | None:
    """In the words on which Claude Code takes the image out of the conversation; others would fail every later turn."""
    if failure.status not in (400, 404, 415, 422, 500) or not _IMAGE.search(
        failure.searchable_text
    ):
        return None
    return ApiError(400, f"Could not process image: {failure.redacted_text}")


def _int_or_zero(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _search_count(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    if match is None:
        return 0
    return parse_count(match)


def parse_count(match: re.Match[str]) -> int:
    """Return the number in the first group that matched.

    0 for more digits than any count has: `int` refuses thousands of them.
    """
    digits: str = next(group for group in match.groups() if group)
    if len(digits) > _MAX_COUNT_DIGITS:
        return 0
    return int(digits)


def drop_thousands_separators(text: str) -> str:
    """Return the text with numbers such as 128,000 and 128_000 in digits alone."""
    return _THOUSANDS_SEPARATOR.sub("", text)


def _failed_generation(failure: UpstreamFailure) -> ApiError | None:
    """Groq's: the model made a call that is none. Not the request is at fault, and another try may go well."""
    return (
        ApiError(500, failure.redacted_text)
        if failure.error.get("code") == "tool_use_failed"
        else None
    )


_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|insufficient (credits|balance)", re.IGNORECASE
)


def _exhausted_quota(failure: UpstreamFailure) -> ApiError | None:
    is_exhausted = failure.status == 402 or (
        failure.status in (403, 429) and _QUOTA.search(failure.searchable_text)
    )
    return ApiError(402, failure.redacted_text, _NO_RETRY_HEADERS) if is_exhausted else None


_BAD_KEY = re.compile(r"(incorrect|invalid) api key", re.IGNORECASE)
_MODERATION = re.compile(r"moderation|flagged", re.IGNORECASE)


def _rejected_key(failure: UpstreamFailure) -> ApiError | None:
    """The proxy's own key: a 401 would send the client, whose key is fine, to log in again. The client's own: just that."""
    if failure.status == 403 and _MODERATION.search(failure.searchable_text):
        return ApiError(400, failure.redacted_text)
    if failure.status in (401, 403) or (failure.status == 400 and _BAD_KEY.search(failure.text)):
        if failure.upstream.caller_key is not None:
            return ApiError(403 if failure.status == 403 else 401, failure.redacted_text)
        action = (
            f"refused the proxy's UPSTREAM_API_KEY ({failure.status})"
            if failure.upstream.has_key
            else f"refused the request ({failure.status}), and no UPSTREAM_API_KEY is set"
        )
        text = f"The upstream {failure.upstream_name} {action}: {failure.redacted_text}"
        return ApiError(500, text, _NO_RETRY_HEADERS)
    return None


def _redirect(failure: UpstreamFailure) -> ApiError | None:
    if failure.status >= 400:
        return None
    text = f"The upstream {failure.upstream_name} redirects ({failure.status}): set UPSTREAM_BASE_URL to the final address"
    return ApiError(500, text, _NO_RETRY_HEADERS)


def _plain_http(failure: UpstreamFailure) -> ApiError | None:
    if failure.status != 400 or not _TLS_PORT.search(failure.text[:_MAX_PAGE_SEARCHED]):
        return None
    text = f"The upstream {failure.upstream_name} takes TLS only (400): UPSTREAM_BASE_URL has to begin with https://"
    return ApiError(500, text, _NO_RETRY_HEADERS)


# What servers and frameworks say of a path that they do not have: Go, FastAPI, Spring, llama.cpp, OpenAI. Of a model that
# they do not have they say its name.
_NO_SUCH_PATH = re.compile(
    r"\s*(?:404\b[:\s]*)?(?:the )?(?:requested )?(?:(?:page|file|path|route|url|resource|endpoint) )?(?:was )?"
    r"not found[.!]?\s*"
    r"|invalid url\b.{0,200}|cannot (?:post|get) /.{0,200}",
    re.IGNORECASE | re.DOTALL,
)


def _missing_path(failure: UpstreamFailure) -> ApiError | None:
    """A wrong base URL. Clients take a 404 for a model that does not exist, and hide its text."""
    # What an upstream lacks besides, such as a list of models, is no fault of the address.
    if (
        failure.status != 404
        or not failure.path
        or (failure.has_reason and not _NO_SUCH_PATH.fullmatch(failure.text))
    ):
        return None
    base = failure.upstream.base_url
    root = strip_version(base)
    location = f" under {root}" if root else ""
    path = f"{base.removeprefix(root)}{failure.path}"
    reason = f": {failure.redacted_text}" if failure.has_reason else ""
    text = f"The upstream {failure.upstream_name} has no {path}{location} (404{reason}): check UPSTREAM_BASE_URL"
    return ApiError(500, text, _NO_RETRY_HEADERS)


def _not_found(failure: UpstreamFailure) -> ApiError | None:
    """OpenRouter's "No endpoints found that support tool use" is about the request; clients hide the text of a 404."""
    if failure.status == 404 and failure.text.startswith("No endpoints found that support"):
        return ApiError(400, failure.redacted_text)
    return None


def _busy(failure: UpstreamFailure) -> ApiError | None:
    if failure.status == 429:
        return ApiError(429, failure.redacted_text, _build_retry_after(failure.headers, None))
    if failure.status in (503, 529) or 520 <= failure.status <= 524:
        return ApiError(
            529, failure.redacted_text, _build_retry_after(failure.headers, _OVERLOADED_RETRY_AFTER)
        )
    return None


def _build_retry_after(headers: Mapping[str, str], default: str | None) -> dict[str, str]:
    seconds = parse_retry_after(headers)
    value = default if seconds is None else f"{min(seconds, MAX_RETRY_AFTER):g}"
    return {} if value is None else {"retry-after": value}


_RULES: tuple[Callable[[UpstreamFailure], ApiError | None], ...] = (
    _redirect,
    _plain_http,
    _context_overflow,
    _bad_image,
    _failed_generation,
    _exhausted_quota,
    _rejected_key,
    _not_found,
    _missing_path,
    _busy,
)

# Errors within a stream often have no status (OpenAI's and vLLM's types).
_BAD_REQUEST = ("invalid_request_error", "BadRequestError")

# What is neither here nor in a rule: 400 for other 4xx, 500 for other 5xx.
_STATUS_BY_UPSTREAM_STATUS = {404: 404, 408: 504, 409: 409, 413: 413, 504: 504}
