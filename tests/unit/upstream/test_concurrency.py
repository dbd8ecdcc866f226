"""Slots: who gets one, in which order, and what becomes of it when its waiter has gone."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from anthropic_proxy.upstream.concurrency import (
    BusyError,
    ConcurrencyLimiter,
    Lease,
    QueueFullError,
    QueueTimeoutError,
)


async def queued(slots: ConcurrencyLimiter, number: int = 1) -> list["asyncio.Task[Lease]"]:
    """Tasks that wait for a slot, in this order."""
    tasks = []
    for _ in range(number):
        tasks.append(asyncio.create_task(slots.acquire()))
        await asyncio.sleep(0)
    assert slots.waiting >= number
    return tasks


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(main())


def test_without_a_limit_there_is_always_one() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(None, 0, 0)
        held = [await slots.acquire() for _ in range(100)]
        assert slots.busy == 100
        for slot in held:
            slot.release()
        assert slots.busy == 0

    run(story)


def test_slots_go_to_those_who_wait_in_their_order() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 3, 60)
        slot = await slots.acquire()
        tasks = await queued(slots, 3)
        for number, task in enumerate(tasks):
            slot.release()
            slot = await task
            assert (slots.busy, slots.waiting) == (1, 2 - number)
        slot.release()
        assert slots.busy == 0

    run(story)


def test_who_comes_later_does_not_get_ahead() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 1, 60)
        slot = await slots.acquire()
        (first,) = await queued(slots)
        slot.release()
        assert (slots.busy, slots.waiting) == (1, 0)
        (second,) = await queued(slots)
        (await first).release()
        (await second).release()
        assert slots.busy == 0

    run(story)


@pytest.mark.parametrize(("queue", "error"), [(0, QueueFullError), (1, QueueTimeoutError)])
@pytest.mark.parametrize(("seconds", "retry_after"), [(0, 1), (0.01, 1)])
def test_there_is_none(
    queue: int, error: type[BusyError], seconds: float, retry_after: float
) -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, queue, seconds)
        held = await slots.acquire()
        with pytest.raises(error) as raised:
            await slots.acquire()
        assert (raised.value.retry_after, slots.busy, slots.waiting) == (retry_after, 1, 0)
        held.release()
        (await slots.acquire()).release()

    run(story)


def test_a_full_queue_names_the_time_after_which_it_has_emptied() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 0, 30)
        await slots.acquire()
        with pytest.raises(QueueFullError) as raised:
            await slots.acquire()
        assert raised.value.retry_after == 30

    run(story)


@pytest.mark.parametrize("order", ["cancelled first", "released first"])
def test_a_waiter_that_leaves_at_that_moment_hands_the_slot_on(order: str) -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 2, 60)
        held = await slots.acquire()
        leaving, staying = await queued(slots, 2)
        if order == "cancelled first":
            leaving.cancel()
        held.release()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        slot = await staying
        assert (slots.busy, slots.waiting) == (1, 0)
        slot.release()
        assert slots.busy == 0

    run(story)


def test_a_waiter_that_leaves_when_its_time_is_over_takes_nothing() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 1, 60)
        held = await slots.acquire()
        (leaving,) = await queued(slots)
        # As the timer does, just before the task that it wakes is cancelled.
        slots._time_out(next(iter(slots._waiting)))
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        held.release()
        assert (slots.busy, slots.waiting) == (0, 0)

    run(story)


def test_a_waiter_that_leaves_early_frees_its_place() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(1, 1, 60)
        held = await slots.acquire()
        (leaving,) = await queued(slots)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert slots.waiting == 0
        held.release()
        assert slots.busy == 0

    run(story)


def test_releasing_twice_frees_one() -> None:
    async def story() -> None:
        slots = ConcurrencyLimiter(2, 0, 0)
        with await slots.acquire() as slot:
            await slots.acquire()
            slot.release()
        slot.release()
        assert slots.busy == 1

    run(story)
