"""An upstream's error -> the error that the client is told: right status, the upstream's own words, no key.

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
from anthropic_proxy.providers.base_url import without_version
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_received
from anthropic_proxy.wire.retry_after import retry_after

# Seconds. The SDKs obey a retry-after of weeks; Claude Code gives up at an hour.
MAX_RETRY_AFTER = 60
_OVERLOADED_RETRY_AFTER = "2"
_TEXT_LIMIT = 2000
_CODE_LIMIT = 200
_COUNT_DIGITS = 15

# Retrying can't help: without this Claude Code retries a dead credential for three minutes.
_NO_RETRY = {"x-should-retry": "false"}


@dataclass(frozen=True)
class Source:
    """The upstream that sent a response."""

    # As clients know it.
    name: str
    redactor: Redactor = NO_SECRETS
    # The client's own key, where the upstream was sent it in place of the proxy's.
    client_key: str | None = None
    # Whether the upstream is sent a key or another credential.
    has_key: bool = True
    # The base URL of its API; empty where clients must not see it.
    url: str = ""

    def redact(self, text: str) -> str:
        """Return the beginning of a text, without secrets and private addresses."""
        if self.client_key:
            text = Redactor([Secret(self.client_key)]).redact_beginning(text)
        return self.redactor.redact_beginning(text)

    def redact_whole(self, text: str) -> str:
        """Return the whole text, without secrets and private addresses."""
        if self.client_key:
            text = Redactor([Secret(self.client_key)]).redact(text)
        return self.redactor.redact(text)


@dataclass(frozen=True)
class Failure:
    """What an upstream said went wrong. Rules read `text`; clients, logs and spans get `shown`."""

    status: int
    # As the upstream wrote it, with the secrets that it may repeat: its beginning, as `_failure` cuts it.
    text: str
    # The machine-readable error object.
    error: JsonObject
    headers: Mapping[str, str]
    source: Source
    # To which a conversation was sent, below the base URL; empty for other requests.
    path: str = ""
    # Whether the upstream said anything.
    has_reason: bool = True

    @property
    def upstream(self) -> str:
        """Its name."""
        return self.source.name

    @cached_property
    def shown(self) -> str:
        """The text without secrets, at most _TEXT_LIMIT characters."""
        return self.source.redact(self.text)[:_TEXT_LIMIT]

    @property
    def searched(self) -> str:
        """Words and codes in one string, to be searched. It is cut, as some patterns are slow on long texts."""
        codes = (str(self.error.get(name) or "")[:_CODE_LIMIT] for name in ("code", "type"))
        return " ".join((self.text, *codes))


class FailureError(ApiError):
    """What the client is told of an upstream's failure, which it holds: a refusal may still be mended (see adjustments)."""

    def __init__(self, error: ApiError, failure: Failure) -> None:
        super().__init__(error.status, error.message, error.headers, error.details)
        self.failure = failure
        self.upstream_status = failure.status


def to_api_error(status: int, headers: Mapping[str, str], body: bytes, source: Source) -> ApiError:
    """The error for an HTTP answer of `status` >= 300."""
    return told(read(status, headers, body, source))


def read(
    status: int, headers: Mapping[str, str], body: bytes, source: Source, path: str = ""
) -> Failure:
    """What an HTTP answer of `status` >= 300 says went wrong. path: as in Failure."""
    try:
        text, error = _words(loads_received(body))
    except ValueError:
        text, error = _plain_text(body), {}
    shown = text or f"The upstream {source.name} answered {status} without a reason"
    return replace(
        _failure(status, shown, error, headers, source), path=path, has_reason=bool(text)
    )


def is_page(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is a page for browsers, which no API has."""
    return bool(
        re.match(
            r"\s*(?:text/html|application/xhtml\+xml)\b",
            headers.get("content-type", ""),
            re.IGNORECASE,
        )
    )


def wants_tls(body: bytes) -> bool:
    """Return whether a response of status 400 says that the port takes TLS only."""
    return bool(_TLS_PORT.search(body[:_PAGE_SEARCHED].decode("utf-8", "replace")))


def no_api(source: Source) -> ApiError:
    """Return the error for an answer of status 200 that is a page."""
    text = f"The upstream {source.name} answered text/html: that is no OpenAI-compatible API. Check UPSTREAM_BASE_URL"
    return ApiError(500, text, _NO_RETRY)


def no_completion(source: Source) -> ApiError:
    """The error for an answer of status 200 that is something else."""
    return ApiError(
        500, f"The upstream {source.name} answered 200 with something that is no chat completion"
    )


def stream_error(chunk: JsonObject, source: Source) -> FailureError | None:
    """The error that a chunk of a stream holds (`{"error": ...}`, with or without choices), None when it holds none."""
    if not chunk.get("error"):
        return None
    text, error = _words(chunk)
    code = str(error.get("code"))
    status = (
        int(code)
        if re.fullmatch(r"[45]\d\d", code)
        else 400
        if error.get("type") in _BAD_REQUEST
        else 500
    )
    words = text or f"The upstream {source.name} broke off the answer without a reason"
    return told(_failure(status, words, error, {}, source))


def _failure(
    status: int, text: str, error: JsonObject, headers: Mapping[str, str], source: Source
) -> Failure:
    # A character more than is searched shows that the text was cut.
    return Failure(status, text[: MAX_SEARCHED + 1], error, headers, source)


def _words(parsed: Any) -> tuple[str, JsonObject]:
    """Text and error object of an error body, in any of the shapes that servers have for it."""
    if isinstance(parsed, list) and len(parsed) == 1:
        # Gemini's.
        return _words(parsed[0])
    if not isinstance(parsed, dict):
        return _as_text(parsed), {}
    error = parsed.get("error")
    if isinstance(error, dict):
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        return ": ".join(_as_text(each) for each in (error.get("message"), raw) if each), error
    return _as_text(error or parsed.get("detail") or parsed.get("message")), parsed


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value).decode()


# The words of nginx, Go and Apache, in this order, for a request without TLS on a port for TLS.
_TLS_PORT = re.compile(
    r"HTTP request (?:was sent )?to (?:an )?HTTPS (?:port|server)|plain HTTP to an SSL-enabled server port",
    re.IGNORECASE,
)
_PAGE_SEARCHED = 4096


def _plain_text(body: bytes) -> str:
    """A plain text answer; a page of HTML says nothing that a client could use."""
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    wants_tls = _TLS_PORT.search(text[:_PAGE_SEARCHED])
    return wants_tls[0] if wants_tls else ""


def told(failure: Failure) -> FailureError:
    """What the client is told of it."""
    error = next(filter(None, (rule(failure) for rule in _RULES)), None) or _as_it_is(failure)
    return FailureError(error, failure)


def _as_it_is(failure: Failure) -> ApiError:
    return ApiError(
        _STATUS.get(failure.status, 400 if 400 <= failure.status < 500 else 500), failure.shown
    )


_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|too_many_prompt_tokens|maximum context length|max context length"
    r"|exceeds the (available )?context|prompt (is )?too long|total length of all messages is too long"
    r"|reduce the length of the messages|input is too long|input token count .{0,200} exceeds"
    r"|greater than the context length|context length of only"
    r"|`inputs` (tokens \+ `max_new_tokens` must be|must have less than)",
    re.IGNORECASE,
)
_TOLD_ALREADY = re.compile(r"prompt is too long: \d+ tokens > \d+ maximum")
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
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


@dataclass(frozen=True)
class ContextSizes:
    """What a context overflow says, in tokens: prompt, limit of the context, asked completion; 0 where it says nothing."""

    prompt: int = 0
    limit: int = 0
    completion: int = 0


def context_sizes(failure: Failure) -> ContextSizes:
    """The sizes that a context overflow tells; all 0 for any other failure."""
    if failure.status not in (400, 413, 422, 500) or not _OVERFLOW.search(failure.searched):
        return ContextSizes()
    text = _THOUSANDS.sub("", failure.text)
    prompt = _count(failure.error.get("n_prompt_tokens")) or _number(_PROMPT_LENGTH, text)
    limit = _count(failure.error.get("n_ctx")) or _number(_CONTEXT_LIMIT, text)
    return ContextSizes(prompt, limit, _number(_COMPLETION_LENGTH, text))


def _context_overflow(failure: Failure) -> ApiError | None:
    """In the real API's words, on which Claude Code compacts or, when only the answer is too long, asks for less."""
    if failure.status not in (400, 413, 422, 500) or not _OVERFLOW.search(failure.searched):
        return None
    said = _TOLD_ALREADY.search(_THOUSANDS.sub("", failure.text))
    if said:
        return ApiError(400, said[0])
    sizes = context_sizes(failure)
    if not sizes.prompt or not sizes.limit:
        return ApiError(400, f"prompt is too long: {failure.shown}")
    if sizes.completion and sizes.prompt <= sizes.limit:
        sum_ = f"{sizes.prompt} + {sizes.completion} > {sizes.limit}, decrease input length or `max_tokens` and try again"
        return ApiError(400, f"input length and `max_tokens` exceed context limit: {sum_}")
    return ApiError(400, f"prompt is too long: {sizes.prompt} tokens > {sizes.limit} maximum")


_IMAGE = re.compile(
    r"image input is not supported|not a multimodal model|support (image|vision)|invalid[ _]image"
    r"|image_url.{0,60}(not|only) supported"
    r"|unknown variant `image_url`|image.{0,40}(could not|cannot|can't|unable to|failed to) be? ?(process|decode|load|read)"
    r"|(could not|cannot|can't|unable to|failed to) (process|decode|load|read|parse|download).{0,20}image"
    r"|mmproj|does not support vision",
    re.IGNORECASE,
)


def _bad_image(failure: Failure) -> ApiError | None:
    """In the words on which Claude Code takes the image out of the conversation; others would fail every later turn."""
    if failure.status not in (400, 404, 415, 422, 500) or not _IMAGE.search(failure.searched):
        return None
    return ApiError(400, f"Could not process image: {failure.shown}")


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return parse_count(next(group for group in match.groups() if group)) if match else 0


def parse_count(digits: str) -> int:
    """Return a number of tokens or the like; 0 for more digits than any has, which `int` may refuse to read."""
    return int(digits) if len(digits) <= _COUNT_DIGITS else 0


def _failed_generation(failure: Failure) -> ApiError | None:
    """Groq's: the model made a call that is none. Not the request is at fault, and another try may go well."""
    return ApiError(500, failure.shown) if failure.error.get("code") == "tool_use_failed" else None


_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|insufficient (credits|balance)", re.IGNORECASE
)


def _spent_quota(failure: Failure) -> ApiError | None:
    spent = failure.status == 402 or (
        failure.status in (403, 429) and _QUOTA.search(failure.searched)
    )
    return ApiError(402, failure.shown, _NO_RETRY) if spent else None


_BAD_KEY = re.compile(r"(incorrect|invalid) api key", re.IGNORECASE)
_MODERATION = re.compile(r"moderation|flagged", re.IGNORECASE)


def _refused_key(failure: Failure) -> ApiError | None:
    """The proxy's own key: a 401 would send the client, whose key is fine, to log in again. The client's own: just that."""
    if failure.status == 403 and _MODERATION.search(failure.searched):
        return ApiError(400, failure.shown)
    if failure.status in (401, 403) or (failure.status == 400 and _BAD_KEY.search(failure.text)):
        if failure.source.client_key is not None:
            return ApiError(403 if failure.status == 403 else 401, failure.shown)
        what = (
            f"refused the proxy's UPSTREAM_API_KEY ({failure.status})"
            if failure.source.has_key
            else f"refused the request ({failure.status}), and no UPSTREAM_API_KEY is set"
        )
        text = f"The upstream {failure.upstream} {what}: {failure.shown}"
        return ApiError(500, text, _NO_RETRY)
    return None


def _redirect(failure: Failure) -> ApiError | None:
    if failure.status >= 400:
        return None
    text = f"The upstream {failure.upstream} redirects ({failure.status}): set UPSTREAM_BASE_URL to the final address"
    return ApiError(500, text, _NO_RETRY)


def _plain_http(failure: Failure) -> ApiError | None:
    if failure.status != 400 or not _TLS_PORT.search(failure.text[:_PAGE_SEARCHED]):
        return None
    text = f"The upstream {failure.upstream} takes TLS only (400): UPSTREAM_BASE_URL has to begin with https://"
    return ApiError(500, text, _NO_RETRY)


# What servers and frameworks say of a path that they do not have: Go, FastAPI, Spring, llama.cpp, OpenAI. Of a model that
# they do not have they say its name.
_NO_SUCH_PATH = re.compile(
    r"\s*(?:404\b[:\s]*)?(?:the )?(?:requested )?(?:(?:page|file|path|route|url|resource|endpoint) )?(?:was )?"
    r"not found[.!]?\s*"
    r"|invalid url\b.{0,200}|cannot (?:post|get) /.{0,200}",
    re.IGNORECASE | re.DOTALL,
)


def _missing_path(failure: Failure) -> ApiError | None:
    """A wrong base URL. Clients take a 404 for a model that does not exist, and hide its text."""
    # What an upstream lacks besides, such as a list of models, is no fault of the address.
    if (
        failure.status != 404
        or not failure.path
        or (failure.has_reason and not _NO_SUCH_PATH.fullmatch(failure.text))
    ):
        return None
    base = failure.source.url
    root = without_version(base)
    place = f" under {root}" if root else ""
    path = f"{base.removeprefix(root)}{failure.path}"
    said = f": {failure.shown}" if failure.has_reason else ""
    text = (
        f"The upstream {failure.upstream} has no {path}{place} (404{said}): check UPSTREAM_BASE_URL"
    )
    return ApiError(500, text, _NO_RETRY)


def _not_found(failure: Failure) -> ApiError | None:
    """OpenRouter's "No endpoints found that support tool use" is about the request; clients hide the text of a 404."""
    if failure.status == 404 and failure.text.startswith("No endpoints found that support"):
        return ApiError(400, failure.shown)
    return None


def _busy(failure: Failure) -> ApiError | None:
    if failure.status == 429:
        return ApiError(429, failure.shown, _retry_after(failure.headers, None))
    if failure.status in (503, 529) or 520 <= failure.status <= 524:
        return ApiError(529, failure.shown, _retry_after(failure.headers, _OVERLOADED_RETRY_AFTER))
    return None


def _retry_after(headers: Mapping[str, str], default: str | None) -> dict[str, str]:
    seconds = retry_after(headers)
    value = default if seconds is None else f"{min(seconds, MAX_RETRY_AFTER):g}"
    return {} if value is None else {"retry-after": value}


_RULES: tuple[Callable[[Failure], ApiError | None], ...] = (
    _redirect,
    _plain_http,
    _context_overflow,
    _bad_image,
    _failed_generation,
    _spent_quota,
    _refused_key,
    _not_found,
    _missing_path,
    _busy,
)

# Errors within a stream often have no status (OpenAI's and vLLM's types).
_BAD_REQUEST = ("invalid_request_error", "BadRequestError")

# What is neither here nor in a rule: 400 for other 4xx, 500 for other 5xx.
_STATUS = {404: 404, 408: 504, 409: 409, 413: 413, 504: 504}
