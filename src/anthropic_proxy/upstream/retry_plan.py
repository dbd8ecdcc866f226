"""Decide when a client request is sent to upstreams again, and limit the number of requests.

There are six reasons to send a request again. Each reason has its own limit, and
`MAX_UPSTREAM_REQUESTS` limits all of them together:

- **retry**: the same upstream may succeed a moment later. The limit is the upstream's `retries`,
  within the budget of the process (`RetryBudget`).
- **connection**: the only upstream refused or closed the connection before its response began, or
  a reused connection was already closed. These count towards `retries`, because each may cost
  money. One is allowed even if `retries` is 0. Only the former count in the `RetryBudget`.
- **failover**: another route may succeed. Each route is tried once.
- **key**: the upstream refused or limited a key. Each attempt tries each key at most once.
- **change**: the upstream refused a part of the request, and the proxy changes that part
  (`gateway.model_memory`). The limit is eight changes for each route and API.
- **API**: the upstream requires its other API. The limit for each upstream is one switch in each
  direction.

A compaction needs two upstream requests: one for the summary, and one that continues from it. Both
count, and a compaction begins only if two requests are left. Repetitions of the second one use the
same summary.

Queries (token counts, lists of models) do not count, because they do not run a model. Only their
resends on a new connection count.
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
    can_fail_over,
    effective_retries,
    is_transient,
)
from anthropic_proxy.wire.retry_after import parse_retry_after

DEFAULT_MAX_REQUESTS = 16

# A server that restarts is often available again after this time.
_RECONNECT_POLICY = RetryPolicy(base_delay=0.5, max_delay=0.5)

# To the other API, and back if the upstream does not have it although it required it.
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
        # Number of upstream requests that each attempt at a route needs: 2 for a compaction.
        self._requests_per_attempt = 1
        # Whether the limit has prevented a request.
        self.was_limited = False
        # Whether the request can fail over from the target to which it is sent.
        self.has_other_target = False
        self._budget = budget
        self._policy = policy or RetryPolicy()
        self._draw = draw
        self._resends: Counter[str] = Counter()
        self._api_changes: Counter[str] = Counter()

    def allows_request(self) -> bool:
        """Return whether one more request is within the limit. If not, set `was_limited`."""
        return self._allows_requests(1)

    def allows_attempt(self) -> bool:
        """Return whether the requests of a new attempt are within the limit.

        If not, set `was_limited`.
        """
        return self._allows_requests(self._requests_per_attempt)

    def _allows_requests(self, number: int) -> bool:
        if self.request_count + number <= self.max_requests:
            return True
        self.was_limited = True
        return False

    def begin_compaction(self) -> None:
        """Reserve two requests for each later attempt. Raises ApiError (500) if fewer are left."""
        self._requests_per_attempt = 2
        if not self.allows_attempt():
            raise self._limit_error()

    def end_compaction(self) -> None:
        """Reserve one request for each later attempt, because all of them use the summary."""
        self._requests_per_attempt = 1

    def record_request(self) -> None:
        """Count an upstream request before it is sent. Raises ApiError (500) beyond the limit."""
        if not self.allows_request():
            raise self._limit_error()
        self.request_count += 1

    def _limit_error(self) -> ApiError:
        text = (
            "This request needs more upstream requests than the server allows: "
            f"{self.max_requests} (MAX_UPSTREAM_REQUESTS)"
        )
        return ApiError(500, text, {"x-should-retry": "false"})

    def try_record_resend(self, upstream: Upstream) -> bool:
        """Return whether to resend a request whose reused connection was closed, and count it."""
        if not (self._allows_resend(upstream) and self.allows_request()):
            return False
        self._resends[upstream.name] += 1
        self.request_count += 1
        return True

    def try_change_api(self, upstream: Upstream) -> bool:
        """Return whether the request may be sent to the upstream's other API."""
        if self._api_changes[upstream.name] >= _MAX_API_CHANGES:
            return False
        if not self.allows_attempt():
            return False
        self._api_changes[upstream.name] += 1
        return True

    def retry_delay(
        self, error: ApiError, upstream: Upstream, retry_count: int, *, is_only_route: bool
    ) -> float | None:
        """Return the seconds after which to send a failed request to the same upstream again.

        Return None if it must not be sent again. retry_count: number of its earlier retries.
        """
        if error.headers.get("x-should-retry") == "false" or not can_fail_over(error):
            return None
        has_retries = retry_count < upstream.retries
        should_retry = has_retries and _is_transient_failure(error)
        should_reconnect = is_only_route and _is_connection_failure(error)
        if not (should_retry or should_reconnect):
            return None
        policy = self._policy if has_retries else _RECONNECT_POLICY
        delay = policy.delay(retry_count, parse_retry_after(error.headers), self._draw)
        if delay is None or not self._allows_resend(upstream):
            return None
        if not self.allows_attempt():
            return None
        if self._budget is not None and not self._budget.try_spend():
            return None
        self._resends[upstream.name] += 1
        return delay

    def _allows_resend(self, upstream: Upstream) -> bool:
        return self._resends[upstream.name] < effective_retries(upstream.retries)


def _is_transient_failure(error: ApiError) -> bool:
    """Return whether the same request to the same upstream may succeed a moment later.

    Some gateways return 400 or 424 for their failures, so that only the mapped status shows it.
    """
    if error.upstream_status is None or is_transient(error.upstream_status):
        return is_transient(error.upstream_status or error.status)
    return bool(error.concerns_target) and is_transient(error.status)


def _is_connection_failure(error: ApiError) -> bool:
    """Return whether a connection was refused or closed before the response began.

    A timeout is not included, because the client has already waited for it. An exhausted resource
    of the proxy is not included, because it will not be available half a second later.
    """
    if not isinstance(error, UpstreamError) or isinstance(error, LocalShortageError):
        return False
    return error.phase != "body" and error.status != 504
