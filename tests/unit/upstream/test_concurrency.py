"""Leases of the concurrency limiter: order, queue, and cancelled waiters."""

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


async def queued(limiter: ConcurrencyLimiter, number: int = 1) -> list["asyncio.Task[Lease]"]:
    """Create tasks that wait for a lease, in this order."""
    tasks = []
    for _ in range(number):
        tasks.append(asyncio.create_task(limiter.acquire()))
        await asyncio.sleep(0)
    assert limiter.waiting >= number
    return tasks


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(main())


def test_without_a_limit_every_request_gets_a_lease() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(None, 0, 0)
        leases = [await limiter.acquire() for _ in range(100)]
        assert limiter.busy == 100
        for lease in leases:
            lease.release()
        assert limiter.busy == 0

    run(story)


def test_waiters_get_leases_in_order() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 3, 60)
        lease = await limiter.acquire()
        tasks = await queued(limiter, 3)
        for number, task in enumerate(tasks):
            lease.release()
            lease = await task
            assert (limiter.busy, limiter.waiting) == (1, 2 - number)
        lease.release()
        assert limiter.busy == 0

    run(story)


def test_a_later_request_does_not_overtake_a_waiter() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 1, 60)
        lease = await limiter.acquire()
        (first,) = await queued(limiter)
        lease.release()
        assert (limiter.busy, limiter.waiting) == (1, 0)
        (second,) = await queued(limiter)
        (await first).release()
        (await second).release()
        assert limiter.busy == 0

    run(story)


@pytest.mark.parametrize(("queue", "error"), [(0, QueueFullError), (1, QueueTimeoutError)])
@pytest.mark.parametrize(("seconds", "retry_after"), [(0, 1), (0.01, 1)])
def test_requests_without_a_lease_are_rejected(
    queue: int, error: type[BusyError], seconds: float, retry_after: float
) -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, queue, seconds)
        lease = await limiter.acquire()
        with pytest.raises(error) as caught:
            await limiter.acquire()
        assert (caught.value.retry_after, limiter.busy, limiter.waiting) == (retry_after, 1, 0)
        lease.release()
        (await limiter.acquire()).release()

    run(story)


def test_a_full_queue_reports_when_a_retry_is_useful() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 0, 30)
        await limiter.acquire()
        with pytest.raises(QueueFullError) as raised:
            await limiter.acquire()
        assert raised.value.retry_after == 30

    run(story)


@pytest.mark.parametrize("order", ["cancelled first", "released first"])
def test_a_waiter_cancelled_with_its_lease_releases_it(order: str) -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 2, 60)
        lease = await limiter.acquire()
        cancelled, waiting = await queued(limiter, 2)
        if order == "cancelled first":
            cancelled.cancel()
        lease.release()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        lease = await waiting
        assert (limiter.busy, limiter.waiting) == (1, 0)
        lease.release()
        assert limiter.busy == 0

    run(story)


def test_a_waiter_cancelled_at_its_timeout_takes_no_lease() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 1, 60)
        lease = await limiter.acquire()
        (cancelled,) = await queued(limiter)
        # The timer calls this just before the task is cancelled.
        limiter._time_out(next(iter(limiter._waiting)))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        lease.release()
        assert (limiter.busy, limiter.waiting) == (0, 0)

    run(story)


def test_a_cancelled_waiter_frees_its_place_in_the_queue() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(1, 1, 60)
        lease = await limiter.acquire()
        (cancelled,) = await queued(limiter)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert limiter.waiting == 0
        lease.release()
        assert limiter.busy == 0

    run(story)


def test_a_second_release_has_no_effect() -> None:
    async def story() -> None:
        limiter = ConcurrencyLimiter(2, 0, 0)
        lease = await limiter.acquire()
        await limiter.acquire()
        lease.release()
        lease.release()
        assert limiter.busy == 1

    run(story)
