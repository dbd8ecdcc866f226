"""A limit for waiting, moved with each read of a stream at the cost of an assignment.

The event loop's own timers cost a timer and a context for each wait. Here a stream has one timer. It is left where it is
when the limit moves on, and looks after the limit only when it rings: once in some seconds, however many the reads are.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


class ReadDeadline:
    """A deadline for the awaits of one task. Call `cancel` after use."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._waiting_task: asyncio.Task[object] | None = None
        self._is_expired = False

    async def wait(self, awaitable: Awaitable[_Result], deadline: float) -> _Result:
        """Return the result of `awaitable`.

        At `deadline` (time of the event loop, in seconds) cancels it and raises TimeoutError.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only tasks can be in a coroutine that waits
        cancellations = task.cancelling()
        self._deadline, self._waiting_task = deadline, task
        if deadline < self._timer_at:
            self._schedule(deadline)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._is_expired and task.uncancel() <= cancellations:
                raise TimeoutError from None
            raise
        finally:
            self._waiting_task, self._is_expired = None, False

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _schedule(self, at: float) -> None:
        self.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._expire), at

    def _expire(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._waiting_task is None:
            return
        if self._loop.time() < self._deadline:
            self._schedule(self._deadline)
        else:
            self._is_expired = True
            self._waiting_task.cancel()
