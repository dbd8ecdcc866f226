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
    """When a circuit breaker opens, and for how long."""

    # Failures in a row after which it opens.
    failures: int = 5
    # Seconds that it stays open at first; doubled by each failed probe, up to `max_cool_down`.
    cool_down: float = 10
    max_cool_down: float = 120
    # The largest random reduction, as a share of the cool-down, so that several processes do not probe at once.
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
        """Return whether `try_acquire` would return a permit. Acquires nothing."""
        return self.state(now) == "closed" or (self.state(now) == "half_open" and not self._probing)

    def try_acquire(self, now: float) -> "Permit | None":
        """Return a permit; None when no request may be sent. The caller must record on it how the request ended.

        In the half-open state the first permit is the probe. There is no other permit until the probe has ended or its
        response has started.
        """
        if not self.allows(now):
            return None
        self._probing = self._open_until is not None
        return Permit(self, self._era)

    def retry_after(self, now: float) -> float:
        """Return the seconds until `try_acquire` may return a permit; 0 when it does now, 1 while a probe is open."""
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
    """Permission for one request to an upstream. Only the first recorded end counts, so a `finally` may call `abandon`."""

    def __init__(self, breaker: CircuitBreaker, era: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self._era = era

    def record_response_start(self) -> None:
        """Record that a response has started: a probe succeeds here, as the response may take minutes to end."""
        if self._breaker:
            self._breaker._record_response_start(self._era)  # noqa: SLF001 - the two are one thing

    def record_success(self) -> None:
        """Record that the upstream works: it responded, even if with an error that the request caused."""
        if breaker := self._end():
            breaker._record_success(self._era)  # noqa: SLF001 - the two are one thing

    def record_failure(self, now: float) -> None:
        """Record that the upstream was unreachable, cut its response, or returned a status that `is_outage`."""
        if breaker := self._end():
            breaker._record_failure(self._era, now)  # noqa: SLF001 - the two are one thing

    def abandon(self) -> None:
        """Record that the request ended without a result, as when the client disconnected."""
        if breaker := self._end():
            breaker._release_probe(self._era)  # noqa: SLF001 - the two are one thing

    def _end(self) -> CircuitBreaker | None:
        breaker, self._breaker = self._breaker, None
        return breaker
