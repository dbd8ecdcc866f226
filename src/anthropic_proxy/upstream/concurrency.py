"""Limit concurrent requests per upstream, with a bounded FIFO queue and a wait timeout.

A lease that is released goes straight to the first waiter, so a later request never overtakes it. A waiter that is
cancelled at the moment it gets the lease passes it on.
"""

import asyncio
from types import TracebackType
from typing import Self


class BusyError(Exception):
    """There was no lease.

    retry_after: seconds after which a retry is useful; by then all waiters have had a lease or given up.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class QueueFullError(BusyError):
    """No lease is free and no more requests may wait."""


class QueueTimeoutError(BusyError):
    """No lease became free in time."""


class ConcurrencyLimiter:
    """The limiter of one upstream, on one event loop."""

    def __init__(self, concurrency: int | None, queue: int, queue_seconds: float) -> None:
        """concurrency: leases at a time (None: no limit). queue: how many may wait. queue_seconds: for how long."""
        self._concurrency = concurrency
        self._queue = queue
        self._queue_seconds = queue_seconds
        self._busy = 0
        self._waiting: dict[asyncio.Future[bool], None] = {}

    @property
    def busy(self) -> int:
        """Leases in use."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many wait for a lease."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next request has to wait."""
        return self._concurrency is not None and self._busy >= self._concurrency

    async def acquire(self) -> "Lease":
        """Return a lease, to be released after use. Raises QueueFullError at once, and QueueTimeoutError in the end."""
        if not self.is_full:
            self._busy += 1
            return Lease(self)
        if len(self._waiting) >= self._queue:
            raise QueueFullError(max(self._queue_seconds, 1))
        if not await self._wait_for_turn():
            raise QueueTimeoutError(max(self._queue_seconds, 1))
        return Lease(self)

    async def _wait_for_turn(self) -> bool:
        """Wait for a lease; return False when the time is over."""
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
        # One that is cancelled stays among those who wait until its task has run.
        turn = next((each for each in self._waiting if not each.done()), None)
        if turn is None:
            self._busy -= 1
        else:
            del self._waiting[turn]
            turn.set_result(True)


class Lease:
    """Permission for one request. Call `release`, or use it in a `with`; releasing again does no harm."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter: ConcurrencyLimiter | None = limiter

    def release(self) -> None:
        """Pass the lease to the next waiter."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._release()  # noqa: SLF001 - the two are one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
