"""Deadlines of stream reads, and cancellations by other parts of the program."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anthropic_proxy.upstream.interruption import ReadDeadline


def run(work: Callable[[ReadDeadline, asyncio.AbstractEventLoop], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        deadline = ReadDeadline()
        try:
            return await work(deadline, asyncio.get_running_loop())
        finally:
            deadline.cancel()

    return asyncio.run(main())


def test_a_result_in_time_is_returned() -> None:
    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> list[str]:
        return [await deadline.wait(asyncio.sleep(0, "x"), loop.time() + 3600) for _ in range(3)]

    assert run(work) == ["x", "x", "x"]


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
def test_a_wait_without_a_result_is_cancelled(seconds: float) -> None:
    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> bool:
        never: asyncio.Future[None] = loop.create_future()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await deadline.wait(
                    never if not never.cancelled() else asyncio.Event().wait(),
                    loop.time() + seconds,
                )
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return never.cancelled()

    assert run(work) is True


def test_the_deadline_can_be_moved() -> None:
    """The timer of the first wait fires in the second wait, which has a later deadline.

    It fires again in a third wait, which has an earlier deadline.
    """

    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> str:
        start = loop.time()
        await deadline.wait(asyncio.sleep(0), start + 0.01)
        result = await deadline.wait(asyncio.sleep(0.03, "result"), start + 3600)
        with pytest.raises(TimeoutError):
            await deadline.wait(asyncio.Event().wait(), start + 0.04)
        return result

    assert run(work) == "result"


def test_a_task_that_does_not_wait_is_not_cancelled() -> None:
    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> str:
        await deadline.wait(asyncio.sleep(0), loop.time() + 0.01)
        await asyncio.sleep(0.03)
        with pytest.raises(TimeoutError):
            await deadline.wait(asyncio.Event().wait(), loop.time())
        return await deadline.wait(asyncio.sleep(0, "result"), loop.time() + 3600)

    assert run(work) == "result"


@pytest.mark.parametrize("expires", [False, True])
def test_another_cancellation_is_raised(expires: bool) -> None:
    """This includes a cancellation at the same time as the deadline."""

    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> bool:
        limit = loop.time() + (0.01 if expires else 3600)
        waiting = asyncio.ensure_future(deadline.wait(asyncio.Event().wait(), limit))
        await asyncio.sleep(0)
        if expires:
            loop.call_at(limit, waiting.cancel)
        else:
            waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    assert run(work) is True


def test_an_error_is_raised() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("x")

    async def work(deadline: ReadDeadline, loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(ValueError, match="x"):
            await deadline.wait(fails(), loop.time() + 3600)

    run(work)
