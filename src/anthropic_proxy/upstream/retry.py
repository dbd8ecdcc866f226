"""Rules for retries: statuses, keys, delays and the total number of retries.

The functions and classes do not wait and do not read a clock. `now` is the time in seconds, from
any monotonic clock. `random` returns a number from 0 up to 1. `retry_after` is the number of
seconds that the upstream requested; None if it requested none.

There is a KeyRing for each upstream, and a RetryBudget for the process. `retry_plan.RetryPlan`
applies the rules to one client request.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from anthropic_proxy.errors import ApiError

_Random = Callable[[], float]

# The key has no permission or credit, or the upstream does not have the model. Another upstream may
# accept the request.
_REFUSED_HERE = frozenset({401, 402, 403, 404})
# RFC 9110, 15.5.9, and RFC 6585, 4.
_TRANSIENT = frozenset({408, 429})
# The server does not support the request (RFC 9110, 15.6.2 and 15.6.6).
_PERMANENT = frozenset({501, 505})

# Seconds.
_REFUSED_KEY_COOL_DOWN = 300.0
_LIMITED_KEY_COOL_DOWN = 10.0
_MAX_KEY_COOL_DOWN = 300.0


def should_fail_over(status: int) -> bool:
    """Return whether another upstream may succeed after this HTTP status.

    An error in the request itself (400, 413, 422) would be the same at every upstream.
    """
    return status in _REFUSED_HERE or status in _TRANSIENT or status >= 500


def can_fail_over(error: ApiError) -> bool:
    """Return whether another upstream may succeed after this error."""
    if error.concerns_target is not None:
        return error.concerns_target
    if _is_request_error_with_5xx(error):
        return False
    if error.upstream_status:
        return should_fail_over(error.upstream_status)
    # The proxy itself returns a status below 500 only if the request is invalid.
    return error.status >= 500


def _is_request_error_with_5xx(error: ApiError) -> bool:
    """Return whether the request is invalid although the upstream returned a 5xx status.

    Some servers return 500 for a prompt that is too long, or for an image that they do not support.
    """
    return error.status in (400, 413) and (error.upstream_status or 0) >= 500


def is_transient(status: int) -> bool:
    """Return whether the same request to the same upstream may succeed a moment later."""
    return status in _TRANSIENT or (status >= 500 and status not in _PERMANENT)


def is_outage(status: int) -> bool:
    """Return whether this HTTP status is a failure of the upstream for `CircuitBreaker`.

    These statuses are not, because other requests may succeed: a rate limit, which often applies to
    one model and cools down the key (`KeyRing`); a missing model; a refused key; and 500, which
    some servers return for a request that they cannot process (llama.cpp for an image that its
    model does not support), so that only several in a row count
    (`CircuitBreaker.record_server_error`).
    """
    return is_transient(status) and status not in (429, 500)


@dataclass(frozen=True)
class UpstreamKey:
    """One key of an upstream."""

    # The position in the configuration, from 0.
    number: int
    # None when no key is sent.
    value: str | None = field(repr=False)


def cool_down_seconds(status: int, retry_after: float | None) -> float:
    """Return the seconds for which a key is not used after it was limited (429) or refused.

    A refused key is tried again only after a long time, because the operator has to fix it.
    """
    if status != 429:
        return _REFUSED_KEY_COOL_DOWN
    if retry_after is None:
        return _LIMITED_KEY_COOL_DOWN
    return min(max(retry_after, 0.0), _MAX_KEY_COOL_DOWN)


class KeyRing:
    """The keys of one upstream, used in turn. Keys that cool down are skipped.

    A single key never cools down here, because no other key can replace it. Its models cool down
    for requests with another target (`target_health`).
    """

    def __init__(self, keys: Iterable[str]) -> None:
        """Create a ring without duplicates. If `keys` is empty, it has one key without a value."""
        values: list[str | None] = [*dict.fromkeys(keys)]
        entries = enumerate(values or [None])
        self._keys = deque(UpstreamKey(number, value) for number, value in entries)
        self._cool_until = dict.fromkeys(self._keys, float("-inf"))

    def __len__(self) -> int:
        return len(self._keys)

    def next(self, now: float) -> UpstreamKey | None:
        """Return the least recently used key; None if all cool down."""
        for key in self._keys:
            if self._cool_until[key] <= now:
                self._keys.remove(key)
                self._keys.append(key)
                return key
        return None

    def cool_down(self, key: UpstreamKey, now: float, seconds: float) -> None:
        """Do not use a key for some seconds. Never shortens an earlier cool-down."""
        if len(self._keys) > 1:
            self._cool_until[key] = max(self._cool_until[key], now + seconds)

    def retry_after(self, now: float) -> float:
        """Return the seconds until a key can be used; 0 if a key can be used now."""
        return max(min(self._cool_until.values()) - now, 0)


@dataclass(frozen=True)
class RetryPolicy:
    """The delays before a request is sent to the same upstream again, in seconds."""

    # Upper bound of the first delay. It doubles with each retry, up to `max_delay`.
    base_delay: float = 0.5
    max_delay: float = 8
    # The longest wait that an upstream may request. If it requests more, there is no retry.
    max_retry_after: float = 10

    def delay(self, retry_count: int, retry_after: float | None, random: _Random) -> float | None:
        """Return the seconds to wait; None if the request must not be retried.

        Without `retry_after`, the delay is a random number up to the bound ("full jitter", see
        aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).

        retry_count: number of earlier retries.
        """
        if retry_after is None:
            return random() * min(self.base_delay * 2.0 ** min(retry_count, 32), self.max_delay)
        if retry_after > self.max_retry_after:
            return None
        return max(retry_after, 0) + random() * self.base_delay


def effective_retries(retries: int) -> int:
    """Return the maximum number of retries of a client request at one upstream.

    At least 1, because a broken connection is retried once even if the configured number is 0.

    retries: the configured number.
    """
    return max(retries, 1)


@dataclass(frozen=True)
class RetryBudgetConfig:
    """The size of a retry budget."""

    # Number of retries per request in the last `window` seconds.
    share: float = 0.2
    # Seconds.
    window: float = 60
    # Minimum number of retries in a window, for any number of requests.
    floor: int = 10


class RetryBudget:
    """Limits retries to a fraction of the requests, so that they do not multiply an overload.

    Based on RetryBudget of Finagle. The window is divided into ten slots, so that it slides in
    steps of a tenth.
    """

    def __init__(self, clock: Callable[[], float], config: RetryBudgetConfig | None = None) -> None:
        """Create a budget. clock: monotonic, in seconds."""
        self._clock = clock
        self._config = config or RetryBudgetConfig()
        self._requests = _SlidingCounter(self._config.window)
        self._retries = _SlidingCounter(self._config.window)

    def record_request(self) -> None:
        """Count a client request, but not its retries."""
        self._requests.add(self._clock())

    def try_spend(self) -> bool:
        """Return whether one more retry is within the budget. If it is, count it."""
        now = self._clock()
        allowed = max(self._config.floor, int(self._config.share * self._requests.count(now)))
        if self._retries.count(now) >= allowed:
            return False
        self._retries.add(now)
        return True


class _SlidingCounter:
    """Counts the events of the last `window` seconds, in ten slots, with constant memory."""

    def __init__(self, window: float) -> None:
        self._width = window / 10
        # [slot number, count of events] for each slot that has events.
        self._slots: deque[list[int]] = deque()

    def add(self, now: float) -> None:
        slot = self._drop_old(now)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append([slot, 0])
        self._slots[-1][1] += 1

    def count(self, now: float) -> int:
        self._drop_old(now)
        return sum(number for _, number in self._slots)

    def _drop_old(self, now: float) -> int:
        """Drop the slots before the window, and return the number of the current slot."""
        slot = int(now // self._width)
        while self._slots and self._slots[0][0] < slot - 9:
            self._slots.popleft()
        return slot
