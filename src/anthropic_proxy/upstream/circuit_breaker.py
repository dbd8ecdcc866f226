"""Whether an upstream is spoken to after it has failed: a state machine without a clock of its own.

The time comes in as `now` (seconds of any clock that only goes forward), chance as a callable that gives a number from 0 up
to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_Random = Callable[[], float]
BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class BreakerConfig:
    """failures: in a row, after which it opens. cool_down: seconds that it stays open at first; they double with each probe
    that fails, up to `longest`. jitter: the share of them by which chance may shorten them, so that several processes do
    not probe at once.
    """

    failures: int = 5
    cool_down: float = 10
    max_cool_down: float = 120
    jitter: float = 0.2


class CircuitBreaker:
    """Whether an upstream is spoken to: closed (yes), open (no, for a cool-down), then half-open (one probe decides).

    Answers take minutes, so results come late and out of order: each permit knows the era of the breaker in which it was
    given, and what it has to say of an earlier one is not heard. Else a stream that breaks off from before an outage
    would count against the recovered upstream, or give back the slot of another's probe.
    """

    def __init__(self, random: _Random, config: BreakerConfig | None = None) -> None:
        self._random = random
        self._config = config or BreakerConfig()
        self._failures = 0
        self._openings = 0
        self._open_until: float | None = None
        self._probing = False
        self._era = 0

    def state(self, now: float) -> BreakerState:
        """closed, open or half_open."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether `begin` would give a permit. Takes nothing."""
        return self.state(now) == "closed" or (self.state(now) == "half_open" and not self._probing)

    def try_acquire(self, now: float) -> "Permit | None":
        """A permit, which must be told the end of the request in any case; None when the upstream is left alone. Half-open,
        the first one is the probe, and there is no other until it has ended, or its answer has begun.
        """
        if not self.allows(now):
            return None
        self._probing = self._open_until is not None
        return Permit(self, self._era)

    def retry_after(self, now: float) -> float:
        """Seconds until `begin` may give a permit; 0 when it does now. A probe under way counts as a second."""
        if self.allows(now):
            return 0
        return max((self._open_until or 0) - now, 1 if self._probing else 0)

    def _record_success(self, era: int) -> None:
        if era != self._era:
            return
        self._failures = 0
        if self._probing:
            self._probing, self._open_until, self._openings = False, None, 0
            self._era += 1

    def _record_response_start(self, era: int) -> None:
        if self._probing:
            self._record_success(era)

    def _record_failure(self, era: int, now: float) -> None:
        if era != self._era:
            return
        self._failures += 1
        if self._probing or self._failures >= self._config.failures:
            self._open(now)

    def _release_probe(self, era: int) -> None:
        if era == self._era:
            self._probing = False

    def _open(self, now: float) -> None:
        config = self._config
        seconds = min(config.cool_down * 2.0 ** min(self._openings, 32), config.max_cool_down)
        self._open_until = now + seconds * (1 - config.jitter * self._random())
        self._openings += 1
        self._era += 1
        self._failures, self._probing = 0, False


class Permit:
    """One request to an upstream, as its breaker sees it. Only the first word on its end counts, so that a `finally` may
    always say `abandoned`.
    """

    def __init__(self, breaker: CircuitBreaker, era: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self._era = era

    def record_response_start(self) -> None:
        """An answer has begun. It may go on for minutes, for which nobody need wait to know that the upstream is back."""
        if self._breaker:
            self._breaker._record_response_start(self._era)  # noqa: SLF001 - the two are one thing

    def record_success(self) -> None:
        """The upstream works: it answered, be it with an error that is the request's own."""
        if breaker := self._end():
            breaker._record_success(self._era)  # noqa: SLF001 - the two are one thing

    def record_failure(self, now: float) -> None:
        """It could not be reached, broke off, or answered with a status that `is_outage`."""
        if breaker := self._end():
            breaker._record_failure(self._era, now)  # noqa: SLF001 - the two are one thing

    def abandon(self) -> None:
        """Nothing was learned, as when the client left."""
        if breaker := self._end():
            breaker._release_probe(self._era)  # noqa: SLF001 - the two are one thing

    def _end(self) -> CircuitBreaker | None:
        breaker, self._breaker = self._breaker, None
        return breaker
