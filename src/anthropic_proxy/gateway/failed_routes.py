"""The failures of the routes of one request: which route may serve it, and the error to return.

A context overflow is an error of the request, but a target with a larger context may accept it.
"""

import re

from anthropic_proxy.errors import ApiError
from anthropic_proxy.upstream.retry import is_transient

# The texts of the Messages API, to which the proxy maps the texts of other servers.
_OVERFLOW = re.compile(
    r"prompt is too long|input length and `max_tokens` exceed context limit", re.IGNORECASE
)
_LIMIT = re.compile(r"\d tokens > (\d{1,15}) maximum|\d \+ \d{1,15} > (\d{1,15})")


def parse_overflow_limit(error: ApiError) -> int | None:
    """Return the limit in a context overflow in tokens, 0 if unknown; None for other errors."""
    if error.status not in (400, 413) or not _OVERFLOW.search(error.message):
        return None
    match = _LIMIT.search(error.message)
    return int(match[1] or match[2]) if match else 0


class FailedRoutes:
    """Selects the error to return when no route has served a request."""

    def __init__(self) -> None:
        self._first: ApiError | None = None
        # The overflow of the largest context window.
        self._overflow: ApiError | None = None
        self._largest_limit = 0
        # The first temporary failure of a target that is not known to be smaller.
        self._larger_target_failure: ApiError | None = None

    def add(self, error: ApiError) -> None:
        """Add the error of the next route."""
        self._first = self._first or error
        limit = parse_overflow_limit(error)
        if limit is not None:
            if self._overflow is None or limit > self._largest_limit:
                self._overflow, self._largest_limit = error, limit
        elif self._overflow is not None and is_transient(error.upstream_status or error.status):
            self._larger_target_failure = self._larger_target_failure or error

    def select_error(self) -> ApiError:
        """Return the error of the first route, because the operator prefers that route.

        After a context overflow, return the error of the largest target: the client shortens the
        conversation to the size in an overflow, and tries again after a temporary failure.
        """
        error = self._larger_target_failure or self._overflow or self._first
        assert error is not None  # noqa: S101 - called after `add`
        return error
