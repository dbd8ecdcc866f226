"""When one client request is sent to upstreams again, and how often at most.

There are six reasons to send it again. Each has a limit of its own, and all together have one,
`MAX_UPSTREAM_REQUESTS`:

- **retry**: the same upstream may succeed in a moment. Up to the upstream's `retries`, within
  the budget of the process (`RetryBudget`).
- **connection**: the only upstream refused or broke the connection before its response began, or
  a reused connection turned out to be closed. Counted together with the retries, since each may
  cost money; one is allowed even where `retries` is 0.
- **failover**: another route may succeed. Each route is tried once.
- **key**: the upstream refused or limited a key. Each key is tried once for each retry.
- **change**: the upstream refused a part of the request, which is changed
  (`gateway.model_memory`). Eight changes of a request at most.
- **API**: the upstream requires its other API. Once in each direction.

A compaction sends two requests, one for the summary and one that continues from it. Both count,
and it begins only where two are left.
Queries that run no model (token counts, model lists) do not count, but for one that is sent again.
"""

import random
from collections import Counter
from collections.abc import Callable

from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.http_client import LocalShortageError, UpstreamError
from anthropic_proxy.upstream.retry import (
    RetryBudget,
    RetryPolicy,
    effective_retries,
    is_transient,
    should_fail_over,
)
from anthropic_proxy.wire.retry_after import parse_retry_after

DEFAULT_MAX_REQUESTS = 16

# A restarting server is available again after that time.
_RECONNECT_POLICY = RetryPolicy(base_delay=0.5, max_delay=0.5)

# To the other API, and back where the upstream names one that it does not have.
_MAX_API_CHANGES = 2


class RetryPlan:
    """Counts and limits the upstream requests of one client request."""

    def __init__(
        self,
        max_requests: int = DEFAULT_MAX_REQUESTS,
        *,
        budget: RetryBudget | None = None,
        policy: RetryPolicy | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Create a plan.

        budget: limits the retries of the process. draw: returns a random number from 0 up to 1.
        """
        self.max_requests = max_requests
        self.request_count = 0
        # The requests that the next attempt needs: two for a compaction.
        self.attempt_size = 1
        # Whether the limit has prevented a request.
        self.was_limited = False
        self._budget = budget
        self._policy = policy or RetryPolicy()
        self._draw = draw
        self._resends: Counter[str] = Counter()
        self._api_changes: Counter[str] = Counter()

    def try_attempt(self, size: int = 1) -> bool:
        """Return whether `size` more requests are within the limit; if not, remember that."""
        if self.request_count + size <= self.max_requests:
            return True
        self.was_limited = True
        return False

    def begin_compaction(self) -> None:
        """Let each attempt need two requests. Raises ApiError (500) where fewer are left."""
        self.attempt_size = 2
        if not self.try_attempt(self.attempt_size):
            raise self._limit_error()

    def record_request(self) -> None:
        """Count an upstream request before it is sent. Raises ApiError (500) beyond the limit."""
        if not self.try_attempt():
            raise self._limit_error()
        self.request_count += 1

    def _limit_error(self) -> ApiError:
        text = (
            "This request needs more upstream requests than this server may send for it: "
            f"{self.max_requests} (MAX_UPSTREAM_REQUESTS)"
        )
        return ApiError(500, text, {"x-should-retry": "false"})

    def try_resend(self, upstream: Upstream) -> bool:
        """Return whether a request may be sent again because its reused connection was closed.

        If so, it counts as sent.
        """
        if not (self._allows_resend(upstream) and self.try_attempt()):
            return False
        self._resends[upstream.name] += 1
        self.request_count += 1
        return True

    def try_change_api(self, upstream: Upstream) -> bool:
        """Return whether the request may be sent to the upstream's other API."""
        if self._api_changes[upstream.name] >= _MAX_API_CHANGES:
            return False
        if not self.try_attempt(self.attempt_size):
            return False
        self._api_changes[upstream.name] += 1
        return True

    def retry_delay(
        self, error: ApiError, upstream: Upstream, retry_count: int, *, is_only_route: bool
    ) -> float | None:
        """Return the seconds after which a failed request is sent to the same upstream again.

        Return None when it is not. retry_count: its retries so far.
        """
        if _is_about_request(error):
            return None
        has_retries = retry_count < upstream.retries
        should_retry = has_retries and is_transient(error.upstream_status or error.status)
        should_reconnect = is_only_route and _is_connection_failure(error)
        if not (should_retry or should_reconnect):
            return None
        policy = self._policy if has_retries else _RECONNECT_POLICY
        delay = policy.delay(retry_count, parse_retry_after(error.headers), self._draw)
        if delay is None or not self._allows_resend(upstream):
            return None
        if not self.try_attempt(self.attempt_size):
            return None
        if self._budget is not None and not self._budget.try_spend():
            return None
        self._resends[upstream.name] += 1
        return delay

    def _allows_resend(self, upstream: Upstream) -> bool:
        return self._resends[upstream.name] < effective_retries(upstream.retries)


def can_fail_over(error: ApiError) -> bool:
    """Return whether another upstream may succeed where one failed with this error."""
    if _is_about_request(error):
        return False
    if error.upstream_status:
        return should_fail_over(error.upstream_status)
    # The proxy's own refusals are about the request.
    return error.status >= 500


def _is_about_request(error: ApiError) -> bool:
    """Return whether the request itself is wrong, although the upstream blames itself.

    Some servers return 500 for a prompt that is too long, or for an image that they can't handle.
    """
    return error.status in (400, 413) and (error.upstream_status or 0) >= 500


def _is_connection_failure(error: ApiError) -> bool:
    """Return whether a connection was refused or reset before a response, and did not time out.

    Without retries the client of a connection that timed out has waited long enough. A shortage
    of this server does not end within half a second.
    """
    if not isinstance(error, UpstreamError) or isinstance(error, LocalShortageError):
        return False
    return error.phase != "body" and error.status != 504
