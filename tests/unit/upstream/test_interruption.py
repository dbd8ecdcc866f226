"""The timer of a stream's reads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anthropic_proxy.upstream.interruption import ReadDeadline


def run(work: Callable[[ReadDeadline, asyncio.AbstractEventLoop], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        alarm = ReadDeadline()
        try:
            return await work(alarm, asyncio.get_running_loop())
        finally:
            alarm.cancel()

    return asyncio.run(main())


def test_what_comes_in_time_is_given() -> None:
    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> list[str]:
        return [await alarm.wait(asyncio.sleep(0, "x"), loop.time() + 3600) for _ in range(3)]

    assert run(work) == ["x", "x", "x"]


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
def test_what_does_not_come_is_cancelled(seconds: float) -> None:
    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> bool:
        never: asyncio.Future[None] = loop.create_future()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await alarm.wait(
                    never if not never.cancelled() else asyncio.Event().wait(),
                    loop.time() + seconds,
                )
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return never.cancelled()

    assert run(work) is True


def test_the_limit_moves() -> None:
    """The timer of the first wait fires in the second, which has a later deadline.

    It fires again in a third wait, which has an earlier one.
    """

    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> str:
        start = loop.time()
        await alarm.wait(asyncio.sleep(0), start + 0.01)
        given = await alarm.wait(asyncio.sleep(0.03, "given"), start + 3600)
        with pytest.raises(TimeoutError):
            await alarm.wait(asyncio.Event().wait(), start + 0.04)
        return given

    assert run(work) == "given"


def test_it_does_not_ring_for_who_does_not_wait() -> None:
    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> str:
        await alarm.wait(asyncio.sleep(0), loop.time() + 0.01)
        await asyncio.sleep(0.03)
        with pytest.raises(TimeoutError):
            await alarm.wait(asyncio.Event().wait(), loop.time())
        return await alarm.wait(asyncio.sleep(0, "given"), loop.time() + 3600)

    assert run(work) == "given"


@pytest.mark.parametrize("rings", [False, True])
def test_a_cancellation_from_elsewhere_goes_on(rings: bool) -> None:
    """Also when it comes together with the alarm."""

    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> bool:
        limit = loop.time() + (0.01 if rings else 3600)
        waiting = asyncio.ensure_future(alarm.wait(asyncio.Event().wait(), limit))
        await asyncio.sleep(0)
        if rings:
            loop.call_at(limit, waiting.cancel)
        else:
            waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    assert run(work) is True


def test_a_failure_goes_on() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("x")

    async def work(alarm: ReadDeadline, loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(ValueError, match="x"):
            await alarm.wait(fails(), loop.time() + 3600)

    run(work)
