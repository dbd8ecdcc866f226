"""Interrupt a task that waits, and turn its cancellation into a result.

A read ends at a deadline, a handler when its client disconnects, a request when the server
stops. All three cancel the task that waits, and must then distinguish their own cancellation from
one that another part of the program has requested.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


class Interruption:
    """Interrupts the awaits of one task at a time, from outside of it.

    The task calls `begin`, awaits, and calls `end`. Where the await raises CancelledError, it
    calls `absorb`, and raises the error again if that returns False.
    """

    __slots__ = ("_cancellations", "_is_requested", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._cancellations = 0
        self._is_requested = False

    @property
    def is_waiting(self) -> bool:
        """Return whether a task is between `begin` and `end`."""
        return self._task is not None

    def begin(self) -> None:
        """Let `interrupt` cancel the current task from now on."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only tasks can be in a coroutine that waits
        self._task = task
        self._cancellations = task.cancelling()
        self._is_requested = False

    def interrupt(self) -> None:
        """Cancel the task that waits, if one does."""
        if self._task is not None:
            self._is_requested = True
            self._task.cancel()

    def absorb(self) -> bool:
        """Take back the cancellation by `interrupt`.

        Return True if there was one, and nothing else has cancelled the task as well.
        """
        if not self._is_requested or self._task is None:
            return False
        self._is_requested = False
        return self._task.uncancel() <= self._cancellations

    def end(self) -> None:
        """Let `interrupt` cancel nothing any more."""
        self._task = None
        self._is_requested = False


class ReadDeadline:
    """A deadline for the awaits of one task. Call `cancel` after use.

    The event loop's own timeouts cost a timer and a context for each await. A stream of many
    reads has a single timer here. It is not moved with the deadline: when it fires early, it is
    scheduled again.
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
