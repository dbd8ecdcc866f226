"""Failures that show that a target will not serve later requests either.

After a limit or a refusal, the model of the upstream cools down: it is not used for some time if a
request has another target. Server errors count for the circuit breaker of the upstream. The
functions do not read a clock: `now` is the time in seconds, from any monotonic clock.
"""

import math

from cachetools import LRUCache

from anthropic_proxy.errors import ApiError, PassthroughError, UnusableResponseError
from anthropic_proxy.translate.retry_delay import find_retry_delay
from anthropic_proxy.translate.upstream_errors import UpstreamFailureError
from anthropic_proxy.upstream.retry import can_fail_over, is_transient
from anthropic_proxy.wire.retry_after import parse_retry_after

# For each upstream.
_MAX_MODELS = 256

# Seconds. The operator has to fix a refused key, an account without credit or a missing model.
_REFUSED_SECONDS = 300.0
# Seconds, for a rate limit without `retry-after`, and for a 403, which may concern the content of
# one request, for example at a firewall.
_LIMITED_SECONDS = 10.0
# Seconds. Limits of subscriptions end after hours, but they may be raised earlier.
_MAX_SECONDS = 3600.0

# The key or the account has no permission or credit.
_ACCOUNT_STATUSES = frozenset({401, 402, 403})


class UnavailableError(ApiError):
    """The proxy did not send a request, because its upstream is busy, failing or refuses its keys.

    The upstream's status that is the reason is `upstream_status`.
    """

    def __init__(
        self, status: int, message: str, headers: dict[str, str], upstream_status: int
    ) -> None:
        super().__init__(status, message, headers)
        self.upstream_status = upstream_status


def is_server_error(error: ApiError) -> bool:
    """Return whether a response of an upstream, or an event of it, shows a failure of the server.

    A body that is not a usable response shows one too: for example a login page, or nothing. Failed
    connections and timeouts are not included: the permit of the request records them.
    """
    if isinstance(error, UnusableResponseError):
        return True
    if not isinstance(error, UpstreamFailureError | PassthroughError) or not can_fail_over(error):
        return False
    status = error.upstream_status or error.status
    return status >= 500 and is_transient(status)


def is_about_account(error: ApiError) -> bool:
    """Return whether an upstream limited or refused a key or its account."""
    statuses = {error.status, error.upstream_status}
    return 429 in statuses or bool(statuses & _ACCOUNT_STATUSES)


def model_cool_down_seconds(error: ApiError) -> float | None:
    """Return the seconds for which the model of a failed request is not used.

    Return None if it stays in use.
    """
    if error.upstream_status is None or isinstance(error, UnavailableError):
        return None
    if not can_fail_over(error):
        return None
    statuses = {error.status, error.upstream_status}
    delay = _find_delay(error)
    if 429 in statuses:
        delay = _LIMITED_SECONDS if delay is None else delay
    elif statuses & {401, 402} or (404 in statuses and error.status != 400):
        delay = _REFUSED_SECONDS
    elif 403 in statuses:
        delay = _LIMITED_SECONDS
    return None if delay is None else min(delay, _MAX_SECONDS)


def _find_delay(error: ApiError) -> float | None:
    """Return the seconds that the upstream requested; None if it requested none."""
    if isinstance(error, UpstreamFailureError):
        # The headers may contain a default.
        return find_retry_delay(error.failure)
    return parse_retry_after(error.headers)


class CoolDowns:
    """The cool-downs of the models of one upstream."""

    def __init__(self) -> None:
        self._until: LRUCache[str, float] = LRUCache(_MAX_MODELS)

    def start(self, model: str, now: float, seconds: float) -> None:
        """Do not use a model for some seconds. Never shortens an earlier cool-down."""
        self._until[model] = max(self._until.get(model, -math.inf), now + seconds)

    def end(self, model: str) -> None:
        """End the cool-down of a model, because a request for it has succeeded."""
        self._until.pop(model, None)

    def seconds_left(self, model: str, now: float) -> float:
        """Return the seconds until the model can be used; 0 if it can be used now."""
        return max(self._until.get(model, now) - now, 0)
