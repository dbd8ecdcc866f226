"""How many requests an upstream is given at a time, and who waits for how long: in the order in which they came.

A slot that is given back goes straight to the first that waits, so nobody who comes later gets ahead. A waiter that is
cancelled at the very moment it was given the slot hands it on.
"""

import asyncio
from types import TracebackType
from typing import Self


class BusyError(Exception):
    """There was no slot. retry_after: seconds after which it is worth trying again; by then all who wait have had theirs,
    or have given up.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class QueueFullError(BusyError):
    """No slot is free and no more may wait."""


class QueueTimeoutError(BusyError):
    """No slot came free in time."""


class Slots:
    """The slots of one upstream, on one event loop."""

    def __init__(self, concurrency: int | None, queue: int, seconds: float) -> None:
        """concurrency: slots there are (None: no limit). queue: how many may wait. seconds: how long they may."""
        self._concurrency = concurrency
        self._queue = queue
        self._seconds = seconds
        self._busy = 0
        self._waiting: dict[asyncio.Future[bool], None] = {}

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next one has to wait."""
        return self._concurrency is not None and self._busy >= self._concurrency

    async def acquire(self) -> "Slot":
        """A slot, to be released after use. Raises QueueFullError at once, and QueueTimeoutError in the end."""
        if not self.is_full:
            self._busy += 1
            return Slot(self)
        if len(self._waiting) >= self._queue:
            raise QueueFullError(max(self._seconds, 1))
        if not await self._turn():
            raise QueueTimeoutError(max(self._seconds, 1))
        return Slot(self)

    async def _turn(self) -> bool:
        """Wait for a slot. False when the time is over."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timer = loop.call_later(self._seconds, self._give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self._freed()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)

    def _give_up(self, turn: "asyncio.Future[bool]") -> None:
        if not turn.done():
            del self._waiting[turn]
            turn.set_result(False)

    def _freed(self) -> None:
        # One that is cancelled stays among those who wait until its task has run.
        turn = next((each for each in self._waiting if not each.done()), None)
        if turn is None:
            self._busy -= 1
        else:
            del self._waiting[turn]
            turn.set_result(True)


class Slot:
    """One request's turn. Release it by `release` or at the end of a `with`; more than once does no harm."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        """Give it to the next."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._freed()  # noqa: SLF001 - the two are one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
