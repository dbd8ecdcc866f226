"""The error type of the API, and the table of HTTP statuses and Anthropic error types.

Source: the Anthropic API's error page and the official SDK's status classes.
"""

import math
from collections.abc import Mapping

from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten

# Characters. Texts from other servers are limited to half of it. Errors that list names from the
# client's request may be longer.
_MAX_MESSAGE_LENGTH = 4000

# A retry would fail again. Without this header, Claude Code sends a request with an invalid key ten
# times within three minutes before it shows the error.
_HEADERS_BY_STATUS: Mapping[int, Mapping[str, str]] = {401: {"x-should-retry": "false"}}

# Seconds. Claude Code waits in silence up to this time, for each of ten retries, and reports an
# error with a longer `retry-after` at once (2.1.332). Some SDKs wait for any time.
_MAX_CLIENT_WAIT = 60

# Statuses that servers return if they do not have the path of a request.
MISSING_PATH_STATUSES = frozenset({404, 405, 501})

TYPE_BY_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ConfigError(Exception):
    """The configuration is invalid. The text contains the variable, its value and valid values."""


class ApiError(Exception):
    """An error that is returned to the client."""

    # Status of the upstream response that caused the error, if there was one.
    upstream_status: int | None = None
    # Whether the failure concerns the upstream that was tried, so that another one may succeed;
    # None if only the statuses show it.
    concerns_target: bool | None = None

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        details: JsonObject | None = None,
    ) -> None:
        """Create an error with an HTTP status.

        headers: headers of the response, such as `retry-after` (seconds). details: may contain an
        `error_code` on which clients act.
        """
        message = shorten(message, _MAX_MESSAGE_LENGTH)
        super().__init__(status, message)
        self.details = details
        self.status = status
        self.message = message
        self.headers = {**_HEADERS_BY_STATUS.get(status, {}), **(headers or {})}

    def __str__(self) -> str:
        return f"{self.status} {self.type}: {self.message}"

    @property
    def type(self) -> str:
        """The Anthropic error type for the status."""
        default_type = "invalid_request_error" if self.status < 500 else "api_error"
        return TYPE_BY_STATUS.get(self.status, default_type)

    def body(self, request_id: str) -> JsonObject:
        """Return the error as a response body and as a stream event.

        Its form is `{"type": "error", "error": {...}, "request_id": ...}`.
        """
        error: JsonObject = {"type": self.type, "message": self.message}
        if self.details:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": request_id}

    def to_json(self, request_id: str) -> bytes:
        """Return `body` as JSON."""
        return dumps(self.body(request_id))


class UnusableResponseError(ApiError):
    """An upstream returned a status of success and a body that is not a usable response."""

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(500, message, headers)


class TruncatedError(UnusableResponseError):
    """An upstream closed its response before it was complete."""


class PassthroughError(ApiError):
    """An error of an upstream with the Messages API, which is forwarded byte for byte."""

    def __init__(
        self,
        status: int,
        raw: bytes,
        envelope: JsonObject,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Create an error from the upstream's body.

        raw: the body. envelope: the parsed body; its `error` is an object.
        """
        super().__init__(status, str(envelope["error"].get("message", "")), headers)
        self.upstream_status = status
        self._raw = raw
        self._envelope = envelope

    def adopt(self, mapped_error: ApiError) -> None:
        """Adopt the meaning of the proxy's own error for the same failure.

        The upstream's own headers have precedence.
        """
        self.concerns_target = mapped_error.concerns_target
        added = dict(mapped_error.headers)
        if self.status != 429 or "retry-after-ms" in self.headers:
            added.pop("retry-after", None)
        self.headers = {**added, **self.headers}

    @property
    def type(self) -> str:
        return str(self._envelope["error"]["type"])

    def body(self, request_id: str) -> JsonObject:  # noqa: ARG002 - the envelope has its own
        return self._envelope

    def to_json(self, request_id: str) -> bytes:  # noqa: ARG002 - as above
        return self._raw


def build_retry_headers(seconds: float) -> dict[str, str]:
    """Return the headers of an error after which a retry can succeed in `seconds`.

    Clients do not retry if the wait is longer than a minute: they report the error at once.
    """
    if seconds <= _MAX_CLIENT_WAIT:
        return {"retry-after": f"{round(seconds, 3):g}"}
    return {"retry-after": str(math.ceil(seconds)), "x-should-retry": "false"}


def invalid_request(message: str) -> ApiError:
    """Return the error for an invalid request (400)."""
    return ApiError(400, message)


def resource_exhausted_error(resource: str, purpose: str) -> ApiError:
    """Return the error for a request that fails because the proxy has exhausted a resource."""
    text = f"This server has run out of {resource}, so it can't {purpose}. Retry in 1 s."
    return ApiError(500, text, {"retry-after": "1"})


def server_stopping_error() -> ApiError:
    """Return the error for a request that the proxy does not finish because it stops."""
    return ApiError(529, "This server is stopping. Retry the request.", {"retry-after": "1"})
