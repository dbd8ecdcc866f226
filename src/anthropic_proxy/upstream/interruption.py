"""Interrupt an `await` of a task, and distinguish the interruption from other cancellations.

Three parts of the program interrupt a task: the deadline of a read, the disconnect of a client, and
the stop of the server. Each of them cancels the task, and must then distinguish its own
cancellation from that of another part of the program.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


class Interruption:
    """Interrupts an `await` of a task from outside the task.

    The task calls `begin`, awaits, and calls `end`. If the await raises CancelledError, the task
    calls `absorb`, and raises the error again if `absorb` returns False.
    """

    __slots__ = ("_cancellations", "_is_requested", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._cancellations = 0
        self._is_requested = False

    @property
    def is_waiting(self) -> bool:
        """True while a task is between `begin` and `end`."""
        return self._task is not None

    def begin(self) -> None:
        """Make the current task the target of `interrupt`."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only tasks can be in a coroutine that waits
        self._task = task
        self._cancellations = task.cancelling()
        self._is_requested = False

    def interrupt(self) -> None:
        """Cancel the task if it is between `begin` and `end`."""
        if self._task is not None:
            self._is_requested = True
            self._task.cancel()

    def absorb(self) -> bool:
        """Undo the cancellation by `interrupt`.

        Return True if `interrupt` cancelled the task and nothing else did.
        """
        if not self._is_requested or self._task is None:
            return False
        self._is_requested = False
        return self._task.uncancel() <= self._cancellations

    def end(self) -> None:
        """Remove the target of `interrupt`."""
        self._task = None
        self._is_requested = False


class ReadDeadline:
    """A deadline for the awaits of a task. Call `cancel` after use.

    `asyncio.timeout` creates a timer and a context for each await. This class uses a single timer
    for the many reads of a stream. A later deadline does not move the timer: when the timer expires
    too early, it is scheduled again.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._interruption = Interruption()
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def wait(self, awaitable: Awaitable[_Result], deadline: float) -> _Result:
        """Return the result of `awaitable`.

        Cancel it and raise TimeoutError at `deadline`, in seconds of the event loop's clock.
        """
        interruption = self._interruption
        interruption.begin()
        self._deadline = deadline
        if deadline < self._timer_at:
            self._schedule(deadline)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if interruption.absorb():
                raise TimeoutError from None
            raise
        finally:
            interruption.end()

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
        if not self._interruption.is_waiting:
            return
        if self._loop.time() < self._deadline:
            self._schedule(self._deadline)
        else:
            self._interruption.interrupt()
