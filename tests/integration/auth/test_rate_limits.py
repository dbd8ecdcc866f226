"""Rate limits of keys: accepted requests, responses, and a store that fails."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from limits.aio.storage import MemoryStorage

from anthropic_proxy.auth import rate_limits
from anthropic_proxy.auth.api_keys import ApiKey, ApiKeyRegistry, KeyLimits, RequestDeniedError
from anthropic_proxy.auth.counter_storage import StorageHandle, open_storage
from anthropic_proxy.auth.rate_limits import RateLimiter, TokenUsageSink
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from tests.support.redis_server import Redis, running_redis, silent_server
from tests.support.scripted_upstream import DEADLINE

BACK_OFF = rate_limits._BACK_OFF_SECONDS
NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """The storage looks at the clock itself."""
    with mock.patch("limits.aio.storage.memory.time", mock.Mock(time=NOW.timestamp)):
        yield


class Ran:
    """One RateLimiter, with what it logged and counted."""

    def __init__(self, storage: Any = None) -> None:
        self.log = mock.Mock()
        self.metrics = mock.Mock(spec=Metrics)
        self.now = 1000.0
        opened = (
            storage
            if isinstance(storage, StorageHandle)
            else StorageHandle(storage or MemoryStorage(), mock.AsyncMock())
        )
        self.limits = RateLimiter(opened, self.log, self.metrics, lambda: self.now)

    async def admit(self, times: int) -> list[dict[str, str]]:
        """Headers of so many parallel requests of a key that may send any number of them."""
        key = _key(requests_per_minute=1000)
        async with asyncio.timeout(DEADLINE):
            return await asyncio.gather(*(self.limits.admit(key, NOW) for _ in range(times)))

    async def refused(self, key: ApiKey, now: datetime = NOW) -> RequestDeniedError:
        with pytest.raises(RequestDeniedError) as refused:
            await self.limits.admit(key, now)
        return refused.value


def _key(name: str = "alice", **limits: int) -> ApiKey:
    return ApiKey(name, name, limits=KeyLimits(**limits))


def _run(test: Callable[[Ran], Awaitable[None]], storage: Any = None) -> Ran:
    ran: list[Ran] = []

    async def main() -> None:
        ran.append(Ran(storage))
        await test(ran[0])
        await ran[0].limits.aclose()

    asyncio.run(main())
    return ran[0]


def test_a_key_without_limits() -> None:
    async def test(ran: Ran) -> None:
        assert await ran.limits.admit(_key(), NOW) == {}

    _run(test)


def test_requests() -> None:
    async def test(ran: Ran) -> None:
        key = _key(requests_per_minute=2)
        first = await ran.limits.admit(key, NOW)
        assert first["anthropic-ratelimit-requests-limit"] == "2"
        assert first["anthropic-ratelimit-requests-remaining"] == "1"
        assert first["anthropic-ratelimit-requests-reset"] == "2026-05-06T07:09:09Z"
        assert (await ran.limits.admit(key, NOW))["anthropic-ratelimit-requests-remaining"] == "0"
        error = await ran.refused(key)
        assert (error.status, error.type, error.reason) == (
            429,
            "rate_limit_error",
            "requests_per_minute",
        )
        assert error.message.startswith(
            "Rate limit exceeded: 2 requests per minute for this API key. Retry in "
        )
        assert 1 <= int(error.headers["retry-after"]) <= 75
        assert error.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert "x-should-retry" not in error.headers
        await ran.limits.admit(_key("bob", requests_per_minute=2), NOW)

    _run(test)


def test_tokens_are_let_in_until_they_are_used_up() -> None:
    async def test(ran: Ran) -> None:
        key = _key(tokens_per_minute=100, requests_per_minute=10)
        await ran.limits.count_tokens(key, 99, NOW)
        told = await ran.limits.admit(key, NOW)
        assert (
            told["anthropic-ratelimit-tokens-limit"],
            told["anthropic-ratelimit-tokens-remaining"],
        ) == ("100", "1")
        await ran.limits.count_tokens(key, 50, NOW)
        error = await ran.refused(key)
        assert error.reason == "tokens_per_minute"
        assert error.headers["anthropic-ratelimit-tokens-remaining"] == "0"
        assert error.headers["anthropic-ratelimit-requests-remaining"] == "8"

    _run(test)


def test_a_month_is_the_calendars() -> None:
    december = datetime(NOW.year, 12, 31, 23, 59, 30, tzinfo=UTC)
    january = datetime(NOW.year + 1, 1, 1, tzinfo=UTC)

    async def test(ran: Ran) -> None:
        key = _key(tokens_per_month=1000, tokens_per_minute=5000)
        await ran.limits.count_tokens(key, 1000, december)
        error = await ran.refused(key, december)
        assert error.reason == "tokens_per_month"
        assert (error.headers["retry-after"], error.headers["x-should-retry"]) == ("30", "false")
        # The month's, of which nothing is left, and not the minute's.
        assert error.headers["anthropic-ratelimit-tokens-limit"] == "1000"
        assert (
            error.headers["anthropic-ratelimit-tokens-reset"] == f"{NOW.year + 1}-01-01T00:00:00Z"
        )
        assert (await ran.limits.admit(key, january))[
            "anthropic-ratelimit-tokens-remaining"
        ] == "1000"

    _run(test)


class Broken(MemoryStorage):
    """Counters that can't be reached at times."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if self.errors:
            raise self.errors.pop()
        return await super().incr(key, expiry, amount)


def test_requests_go_on_when_nothing_can_be_counted() -> None:
    async def test(ran: Ran) -> None:
        key = _key(requests_per_minute=1)
        storage.errors = [ConnectionError("away"), TimeoutError(), ValueError("the storage's own")]
        for _ in range(3):
            assert await ran.limits.admit(key, NOW) == {}
            ran.now += BACK_OFF
        await ran.limits.admit(key, NOW)
        await ran.refused(key)

    storage = Broken()
    ran = _run(test, storage)
    assert ran.metrics.count_storage_error.call_count == 3
    assert [call.kwargs["error"] for call in ran.log.error.call_args_list] == ["the storage's own"]


class Stuck(MemoryStorage):
    """Counters that do not answer, and do not end when they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.goes_on = asyncio.Event()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        self.asked += 1
        while not self.goes_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.goes_on.wait()
        return await super().incr(key, expiry, amount)


def test_a_stuck_storage_is_not_waited_for_and_tried_by_one_request_at_a_time() -> None:
    storage = Stuck()

    async def test(ran: Ran) -> None:
        with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.01):
            assert await ran.admit(10) == [{}] * 10
            assert storage.asked == 10
            ran.now += BACK_OFF - 1
            assert await ran.admit(10) == [{}] * 10
            assert storage.asked == 10
            ran.now += 1
            assert await ran.admit(10) == [{}] * 10
            assert storage.asked == 11
        storage.goes_on.set()
        assert await ran.admit(1) == [{}]
        ran.now += BACK_OFF
        assert all(await ran.admit(1))
        assert all(await ran.admit(10))

    ran = _run(test, storage)
    assert ran.metrics.count_storage_error.call_count == 31
    assert ran.log.error.call_count == 1


def test_a_client_that_leaves_does_not_end_the_probing() -> None:
    storage = Broken()

    async def test(ran: Ran) -> None:
        storage.errors = [ConnectionError("away")]
        await ran.admit(1)
        ran.now += BACK_OFF
        probe = asyncio.create_task(ran.admit(1))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert all(await ran.admit(1))

    _run(test, storage)


def test_a_redis_that_accepts_and_never_replies() -> None:
    async def main() -> None:
        async with silent_server() as silent:
            ran = Ran(open_storage(f"redis://127.0.0.1:{silent.port}/0"))
            with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.2):
                assert await ran.admit(10) == [{}] * 10
                connected = silent.connections
                assert await ran.admit(10) == [{}] * 10
                assert silent.connections == connected
                ran.now += BACK_OFF
                assert await ran.admit(10) == [{}] * 10
                assert silent.connections == connected + 1
                async with asyncio.timeout(DEADLINE):
                    await ran.limits.aclose()
            assert ran.metrics.count_storage_error.call_count == 30
            assert ran.log.error.call_count == 1

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="processes can't be stopped there")
def test_a_redis_that_is_stopped_and_goes_on(tmp_path: Path) -> None:
    async def main(redis: Redis) -> None:
        ran = Ran(open_storage(redis.url))
        assert all(await ran.admit(10))
        redis.process.send_signal(signal.SIGSTOP)
        with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.2):
            assert await ran.admit(10) == [{}] * 10
            assert await ran.admit(10) == [{}] * 10
        redis.process.send_signal(signal.SIGCONT)
        ran.now += BACK_OFF
        assert all(await ran.admit(1))
        assert all(await ran.admit(10))
        assert ran.metrics.count_storage_error.call_count == 20
        await ran.limits.aclose()

    with running_redis(tmp_path) as redis:
        asyncio.run(main(redis))


def test_tokens_of_responses_are_counted() -> None:
    async def test(ran: Ran) -> None:
        key = _key(tokens_per_minute=1000)
        sink = TokenUsageSink(
            ran.limits, lambda: ApiKeyRegistry([key, _key("free", requests_per_minute=10)])
        )
        for name in ("alice", "free", "revoked", None):
            seen = Observation("POST", "/v1/messages", api_key_name=name)
            sink.request_started(seen)
            seen.tokens = {
                "input": 10,
                "cache_read": 500,
                "cache_creation": 20,
                "output": 70,
                "thinking": 50,
            }
            sink.request_finished(seen)
        sink.request_finished(Observation("POST", "/v1/messages", api_key_name="alice"))
        TokenUsageSink(ran.limits, lambda: None).request_finished(
            Observation("GET", "/", api_key_name="alice")
        )
        await asyncio.gather(*ran.limits._count_tasks)
        assert (await ran.limits.admit(key, NOW))["anthropic-ratelimit-tokens-remaining"] == "900"

    _run(test)
