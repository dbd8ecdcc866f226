"""Limit concurrent requests per upstream, with a bounded FIFO queue and a wait timeout.

A released lease is passed directly to the first waiter, so that a later request cannot overtake it.
If this waiter is cancelled before it runs, it passes the lease to the next waiter.
"""

import asyncio


class BusyError(Exception):
    """No lease is available."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        # Seconds after which every current waiter has got a lease or timed out.
        self.retry_after = retry_after


class QueueFullError(BusyError):
    """No lease is free, and the queue is full."""


class QueueTimeoutError(BusyError):
    """No lease became free in time."""


class ConcurrencyLimiter:
    """The limiter of one upstream. All calls must be in the same event loop."""

    def __init__(self, concurrency: int | None, queue: int, queue_seconds: float) -> None:
        """Create a limiter.

        concurrency: maximum number of leases at a time; None: no limit. queue: maximum number of
        waiters. queue_seconds: maximum wait.
        """
        self._concurrency = concurrency
        self._queue = queue
        self._queue_seconds = queue_seconds
        self._busy = 0
        self._waiting: dict[asyncio.Future[bool], None] = {}

    @property
    def busy(self) -> int:
        """Number of leases in use."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a lease."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """True if the next request has to wait."""
        return self._concurrency is not None and self._busy >= self._concurrency

    async def acquire(self) -> "Lease":
        """Return a lease, which the caller releases after use.

        Raises QueueFullError if the queue is full, and QueueTimeoutError after the maximum wait.
        """
        if not self.is_full:
            self._busy += 1
            return Lease(self)
        if len(self._waiting) >= self._queue:
            raise QueueFullError(max(self._queue_seconds, 1))
        if not await self._wait_for_turn():
            raise QueueTimeoutError(max(self._queue_seconds, 1))
        return Lease(self)

    async def _wait_for_turn(self) -> bool:
        """Wait for a lease. Return False if the wait has timed out."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timer = loop.call_later(self._queue_seconds, self._time_out, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self._release()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)

    def _time_out(self, turn: "asyncio.Future[bool]") -> None:
        if not turn.done():
            del self._waiting[turn]
            turn.set_result(False)

    def _release(self) -> None:
        # A cancelled waiter stays in the queue until its task has run.
        turn = next((each for each in self._waiting if not each.done()), None)
        if turn is None:
            self._busy -= 1
        else:
            del self._waiting[turn]
            turn.set_result(True)


class Lease:
    """Permission for one request. Call `release` after use."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter: ConcurrencyLimiter | None = limiter

    def release(self) -> None:
        """Pass the lease to the next waiter. A second call does nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._release()  # noqa: SLF001 - two parts of one thing
