"""A circuit breaker: stop sending requests to an upstream that has failed, and probe it later.

The state machine does not read a clock. `now` is the time in seconds, from any monotonic clock.
`random` returns a number from 0 up to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_Random = Callable[[], float]
BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class BreakerConfig:
    """Conditions that open a circuit breaker, and the time for which it stays open."""

    # Number of consecutive failures that opens it.
    failures: int = 5
    # Seconds for which it first stays open; doubled by each failed probe, up to `max_cool_down`.
    cool_down: float = 10
    # Seconds.
    max_cool_down: float = 120
    # Maximum random reduction of the cool-down, as a fraction of it, so that several processes do
    # not probe at the same time.
    jitter: float = 0.2
    # Whether `failures` consecutive server errors (status 500) open it as well.
    counts_server_errors: bool = False


class CircuitBreaker:
    """Allows requests while closed, none while open, and one probe while half-open.

    It opens after consecutive failures, and becomes half-open after a cool-down. The result of the
    probe closes it or opens it again.

    Responses take minutes, so results arrive late and out of order. Each opening or closing begins
    a new era. A permit records the era in which it was issued, and its result counts only in that
    era. For example, a stream that began before an outage and fails after it does not count as a
    failure of the recovered upstream, and does not end the probe of another request.
    """

    def __init__(self, random: _Random, config: BreakerConfig | None = None) -> None:
        self._random = random
        self._config = config or BreakerConfig()
        self._failures = 0
        self._server_errors = 0
        self._openings = 0
        self._open_until: float | None = None
        self._is_probing = False
        self._era = 0

    def state(self, now: float) -> BreakerState:
        if self._open_until is None:
            return "closed"
        if now < self._open_until:
            return "open"
        return "half_open"

    def allows(self, now: float) -> bool:
        """Return whether `try_acquire` would return a permit. Does not change the state."""
        state = self.state(now)
        if state == "half_open":
            return not self._is_probing
        return state == "closed"

    def try_acquire(self, now: float) -> "Permit | None":
        """Return a permit, or None if no request may be sent.

        The caller must record the result of the request in the permit. The first permit in the
        half-open state is the probe. No other permit is issued until the probe has ended or its
        response has started.
        """
        if not self.allows(now):
            return None
        self._is_probing = self._open_until is not None
        return Permit(self, self._era)

    def retry_after(self, now: float) -> float:
        """Return the seconds until `try_acquire` may return a permit; at least 1 during a probe."""
        if self.allows(now):
            return 0
        seconds = (self._open_until or 0) - now
        return max(seconds, 1 if self._is_probing else 0)

    @property
    def counts_server_errors(self) -> bool:
        """Whether `record_server_error` may open the breaker."""
        return self._config.counts_server_errors

    def record_server_error(self, now: float) -> None:
        """Record a response that reports a failure of the server. The permit has ended before.

        A single one does not show that the server has failed, because some servers return 500 for a
        request that they cannot handle. Several without a usable response between them do, and so
        does the response to a probe.
        """
        if not self.counts_server_errors or not self.allows(now):
            return
        self._server_errors += 1
        is_half_open = self._open_until is not None
        if is_half_open or self._server_errors >= self._config.failures:
            self._open(now)

    def record_usable_response(self) -> None:
        """Record a response that the client receives, so that earlier server errors don't count."""
        self._server_errors = 0

    def _record_success(self, era: int) -> None:
        if era != self._era:
            return
        self._failures = 0
        if self._is_probing:
            self._close()

    def _record_response_start(self, era: int) -> None:
        if self._is_probing:
            self._record_success(era)

    def _record_failure(self, era: int, now: float) -> None:
        if era != self._era:
            return
        self._failures += 1
        if self._is_probing or self._failures >= self._config.failures:
            self._open(now)

    def _release_probe(self, era: int) -> None:
        if era == self._era:
            self._is_probing = False

    def _close(self) -> None:
        self._open_until = None
        self._openings = 0
        self._is_probing = False
        self._era += 1

    def _open(self, now: float) -> None:
        config = self._config
        seconds = min(config.cool_down * 2.0 ** min(self._openings, 32), config.max_cool_down)
        self._open_until = now + seconds * (1 - config.jitter * self._random())
        self._openings += 1
        self._failures = 0
        self._server_errors = 0
        self._is_probing = False
        self._era += 1


class Permit:
    """Permission for one request to an upstream.

    Only the first recorded result counts, so a `finally` block may call `abandon`.
    """

    def __init__(self, breaker: CircuitBreaker, era: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self._era = era

    def record_response_start(self) -> None:
        """Record that a response has started.

        This is the success of a probe, because the response may take minutes to end.
        """
        if self._breaker:
            self._breaker._record_response_start(self._era)  # noqa: SLF001 - two parts of one thing

    def record_success(self) -> None:
        """Record that the upstream responded, possibly with an error that the request caused."""
        if breaker := self._end():
            breaker._record_success(self._era)  # noqa: SLF001 - two parts of one thing

    def record_failure(self, now: float) -> None:
        """Record a failure: the upstream was unreachable, or its response was incomplete.

        A status for which `retry.is_outage` is true is also a failure.
        """
        if breaker := self._end():
            breaker._record_failure(self._era, now)  # noqa: SLF001 - two parts of one thing

    def abandon(self) -> None:
        """Record that the request ended without a result, for example by a client disconnect."""
        if breaker := self._end():
            breaker._release_probe(self._era)  # noqa: SLF001 - two parts of one thing

    def _end(self) -> CircuitBreaker | None:
        breaker, self._breaker = self._breaker, None
        return breaker
