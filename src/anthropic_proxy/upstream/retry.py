"""When to try elsewhere, when to try again, and when to leave an upstream alone: decisions only.

Nothing here waits, reads a clock or draws a random number: the time comes in as `now` (seconds of any clock that only goes
forward), chance as a callable that gives a number from 0 up to 1. So every decision can be tabled and tested. The shell
asks before it sends, tells what became of it, and does the waiting.

Each state has one owner: a CircuitBreaker for one upstream and key, a KeyRing for one upstream, and a RetryBudget for the
process.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import log
from typing import Protocol, TypeVar

_Random = Callable[[], float]

# The request itself may be fine, but not here: a key without rights or credit, a model that this upstream does not have.
_NOT_HERE = frozenset({401, 402, 403, 404})
# RFC 9110, 15.5.9, and RFC 6585, 4.
_TRANSIENT = frozenset({408, 429})
# A server that can't do this at all (RFC 9110, 15.6.2 and 15.6.6) will not be able to in a moment.
_PERMANENT = frozenset({501, 505})


def should_fail_over(status: int) -> bool:
    """Whether another target may answer what one refused with this HTTP status. What is wrong with the request itself
    (400, 413, 422) is wrong everywhere. Failures to connect have no status and always fail over.
    """
    return status in _NOT_HERE or status in _TRANSIENT or status >= 500


def is_transient(status: int) -> bool:
    """Whether the same request to the same upstream may succeed in a moment."""
    return status in _TRANSIENT or (status >= 500 and status not in _PERMANENT)


def is_outage(status: int) -> bool:
    """Return whether this HTTP status counts against the upstream as a whole (`CircuitBreaker`).

    A rate limit often applies to one model, and cools down its key (`KeyRing`). A missing model or a refused key says
    nothing about other requests. Some servers return 500 for a request that they can't handle (llama.cpp for an image
    that its model can't see).
    """
    return is_transient(status) and status not in (429, 500)


@dataclass(frozen=True)
class UpstreamKey:
    """One key of an upstream."""

    # The position in the configuration, from 0, as in the log.
    number: int
    # None when no key is sent.
    value: str | None = field(repr=False)


def cool_down_seconds(status: int, retry_after: float | None) -> float | None:
    """Return the seconds for which a key is not used after this HTTP status; None when it stays in use.

    A key without rights or credit has to be fixed by the operator, so it is retried at long intervals.

    retry_after: seconds that the upstream requested.
    """
    if status == 429:
        return min(10.0 if retry_after is None else max(retry_after, 0.0), 300.0)
    return 300.0 if status in (401, 402, 403) else None


class KeyRing:
    """The keys of one upstream in turn, without those that cool. A single key never cools: there is no better one, so the
    client is told what the upstream says of it.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        """keys: repeated ones count once; without any there is one key without a value."""
        values: list[str | None] = [*dict.fromkeys(keys)]
        self._keys = deque(
            UpstreamKey(number, value) for number, value in enumerate(values or [None])
        )
        self._cool_until = dict.fromkeys(self._keys, float("-inf"))

    def next(self, now: float) -> UpstreamKey | None:
        """The key that has not been used for the longest time; None when all cool."""
        for key in self._keys:
            if self._cool_until[key] <= now:
                self._keys.remove(key)
                self._keys.append(key)
                return key
        return None

    def cool_down(self, key: UpstreamKey, now: float, seconds: float) -> None:
        """Do not use a key for some seconds (see `cool_down_seconds`). Never shortens an earlier cool-down."""
        if len(self._keys) > 1:
            self._cool_until[key] = max(self._cool_until[key], now + seconds)

    def retry_after(self, now: float) -> float:
        """Seconds until there is a key; 0 when there is one."""
        return max(min(self._cool_until.values()) - now, 0)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait before the same request is sent to the same upstream again. All values are in seconds."""

    # The upper bound of the first delay; it doubles with each retry, up to `max_delay`.
    base_delay: float = 0.5
    max_delay: float = 8
    # The longest wait that an upstream may request. A longer one is left to the client, which receives the error.
    max_retry_after: float = 10

    def delay(self, retry_count: int, retry_after: float | None, random: _Random) -> float | None:
        """Return the seconds to wait; None when the client should receive the error.

        Without `retry_after` the delay is random up to the bound: "full jitter" spreads the clients of a failed server
        best (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).

        retry_count: earlier retries, 0 before the first one. retry_after: seconds that the upstream requested.
        """
        if retry_after is None:
            return random() * min(self.base_delay * 2.0 ** min(retry_count, 32), self.max_delay)
        if retry_after > self.max_retry_after:
            return None
        return max(retry_after, 0) + random() * self.base_delay


def effective_retries(retries: int) -> int:
    """Return the largest number of retries of one client request at one upstream.

    At least one: a broken connection is retried once even where the configured number is 0.

    retries: the configured number.
    """
    return max(retries, 1)


@dataclass(frozen=True)
class RetryBudgetConfig:
    """The size of a retry budget."""

    # Retries for each request of the last `window` seconds.
    share: float = 0.2
    # Seconds.
    window: float = 60
    # Retries that every window allows, however few its requests are.
    floor: int = 10


class RetryBudget:
    """Bounds the retries by the requests, so that an upstream under load does not get several times as much of it.

    As in Finagle (finagle's RetryBudget), counted over a sliding window. Its edge moves in steps of a tenth.
    """

    def __init__(self, clock: Callable[[], float], config: RetryBudgetConfig | None = None) -> None:
        """clock: seconds, only ever more."""
        self._clock = clock
        self._config = config or RetryBudgetConfig()
        self._requests = _SlidingCounter(self._config.window)
        self._retries = _SlidingCounter(self._config.window)

    def record_request(self) -> None:
        """A request came from a client; its retries are not counted here."""
        self._requests.add(self._clock())

    def try_spend(self) -> bool:
        """Whether one more retry is within the budget; if so, it counts as made."""
        now = self._clock()
        is_allowed = self._retries.count(now) < max(
            self._config.floor, int(self._config.share * self._requests.count(now))
        )
        if is_allowed:
            self._retries.add(now)
        return is_allowed


class _SlidingCounter:
    """How often something happened within the last `window` seconds, in ten slots, whatever the rate."""

    def __init__(self, window: float) -> None:
        self._width = window / 10
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
        """Drop what is too old; the number of the slot of `now`."""
        slot = int(now // self._width)
        while self._slots and self._slots[0][0] < slot - 9:
            self._slots.popleft()
        return slot


class Weighted(Protocol):
    """What has a weight: a positive number, its share among those of its group."""

    @property
    def weight(self) -> float: ...


T = TypeVar("T", bound=Weighted)


def shuffle_by_weight(groups: Iterable[Iterable[T]], random: _Random) -> list[T]:
    """All targets in the order in which to try them: the groups one after the other, and within a group a draw by weight
    without replacement.

    Each target draws a waiting time whose rate is its weight; the shortest comes first (Efraimidis and Spirakis, "Weighted
    random sampling with a reservoir", 2006).
    """
    return [
        target
        for group in groups
        for target in sorted(group, key=lambda each: -log(1 - random()) / each.weight)
    ]
