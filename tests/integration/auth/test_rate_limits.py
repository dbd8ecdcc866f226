"""Rate limits of keys: accepted requests, response headers, and failing storages."""

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
    """Set the clock of the storage."""
    with mock.patch("limits.aio.storage.memory.time", mock.Mock(time=NOW.timestamp)):
        yield


class LimiterFixture:
    """A rate limiter with mocks of its log and metrics."""

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
        """Return the headers of parallel requests with a key that has a high limit."""
        key = _key(requests_per_minute=1000)
        async with asyncio.timeout(DEADLINE):
            return await asyncio.gather(*(self.limits.admit(key, NOW) for _ in range(times)))

    async def rejection(self, key: ApiKey, now: datetime = NOW) -> RequestDeniedError:
        with pytest.raises(RequestDeniedError) as error:
            await self.limits.admit(key, now)
        return error.value


def _key(name: str = "alice", **limits: int) -> ApiKey:
    return ApiKey(name, name, limits=KeyLimits(**limits))


def _run(test: Callable[[LimiterFixture], Awaitable[None]], storage: Any = None) -> LimiterFixture:
    limiters: list[LimiterFixture] = []

    async def main() -> None:
        limiters.append(LimiterFixture(storage))
        await test(limiters[0])
        await limiters[0].limits.aclose()

    asyncio.run(main())
    return limiters[0]


def test_a_key_without_limits_is_admitted_without_headers() -> None:
    async def check(limiter: LimiterFixture) -> None:
        assert await limiter.limits.admit(_key(), NOW) == {}

    _run(check)


def test_requests_above_the_limit_are_rejected() -> None:
    async def check(limiter: LimiterFixture) -> None:
        key = _key(requests_per_minute=2)
        first = await limiter.limits.admit(key, NOW)
        assert first["anthropic-ratelimit-requests-limit"] == "2"
        assert first["anthropic-ratelimit-requests-remaining"] == "1"
        assert first["anthropic-ratelimit-requests-reset"] == "2026-05-06T07:09:09Z"
        assert (await limiter.limits.admit(key, NOW))[
            "anthropic-ratelimit-requests-remaining"
        ] == "0"
        error = await limiter.rejection(key)
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
        await limiter.limits.admit(_key("bob", requests_per_minute=2), NOW)

    _run(check)


def test_requests_are_admitted_until_the_tokens_are_used() -> None:
    async def check(limiter: LimiterFixture) -> None:
        key = _key(tokens_per_minute=100, requests_per_minute=10)
        await limiter.limits.count_tokens(key, 99, NOW)
        headers = await limiter.limits.admit(key, NOW)
        assert (
            headers["anthropic-ratelimit-tokens-limit"],
            headers["anthropic-ratelimit-tokens-remaining"],
        ) == ("100", "1")
        await limiter.limits.count_tokens(key, 50, NOW)
        error = await limiter.rejection(key)
        assert error.reason == "tokens_per_minute"
        assert error.headers["anthropic-ratelimit-tokens-remaining"] == "0"
        assert error.headers["anthropic-ratelimit-requests-remaining"] == "8"

    _run(check)


def test_monthly_limits_follow_the_calendar() -> None:
    december = datetime(NOW.year, 12, 31, 23, 59, 30, tzinfo=UTC)
    january = datetime(NOW.year + 1, 1, 1, tzinfo=UTC)

    async def check(limiter: LimiterFixture) -> None:
        key = _key(tokens_per_month=1000, tokens_per_minute=5000)
        await limiter.limits.count_tokens(key, 1000, december)
        error = await limiter.rejection(key, december)
        assert error.reason == "tokens_per_month"
        assert (error.headers["retry-after"], error.headers["x-should-retry"]) == ("30", "false")
        # The headers describe the exhausted monthly limit and not the limit per minute.
        assert error.headers["anthropic-ratelimit-tokens-limit"] == "1000"
        assert (
            error.headers["anthropic-ratelimit-tokens-reset"] == f"{NOW.year + 1}-01-01T00:00:00Z"
        )
        assert (await limiter.limits.admit(key, january))[
            "anthropic-ratelimit-tokens-remaining"
        ] == "1000"

    _run(check)


class FailingStorage(MemoryStorage):
    """A storage that raises the configured errors."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if self.errors:
            raise self.errors.pop()
        return await super().incr(key, expiry, amount)


def test_requests_are_admitted_if_the_storage_fails() -> None:
    async def check(limiter: LimiterFixture) -> None:
        key = _key(requests_per_minute=1)
        storage.errors = [ConnectionError("away"), TimeoutError(), ValueError("the storage's own")]
        for _ in range(3):
            assert await limiter.limits.admit(key, NOW) == {}
            limiter.now += BACK_OFF
        await limiter.limits.admit(key, NOW)
        await limiter.rejection(key)

    storage = FailingStorage()
    limiter = _run(check, storage)
    assert limiter.metrics.count_storage_error.call_count == 3
    assert [call.kwargs["error"] for call in limiter.log.error.call_args_list] == [
        "the storage's own"
    ]


class HangingStorage(MemoryStorage):
    """A storage that blocks until `resume` is set, even if it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.resume = asyncio.Event()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        self.calls += 1
        while not self.resume.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.resume.wait()
        return await super().incr(key, expiry, amount)


def test_a_hanging_storage_is_probed_by_one_request_at_a_time() -> None:
    storage = HangingStorage()

    async def check(limiter: LimiterFixture) -> None:
        with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.01):
            assert await limiter.admit(10) == [{}] * 10
            assert storage.calls == 10
            limiter.now += BACK_OFF - 1
            assert await limiter.admit(10) == [{}] * 10
            assert storage.calls == 10
            limiter.now += 1
            assert await limiter.admit(10) == [{}] * 10
            assert storage.calls == 11
        storage.resume.set()
        assert await limiter.admit(1) == [{}]
        limiter.now += BACK_OFF
        assert all(await limiter.admit(1))
        assert all(await limiter.admit(10))

    limiter = _run(check, storage)
    assert limiter.metrics.count_storage_error.call_count == 31
    assert limiter.log.error.call_count == 1


def test_a_cancelled_request_does_not_end_the_probe() -> None:
    storage = FailingStorage()

    async def check(limiter: LimiterFixture) -> None:
        storage.errors = [ConnectionError("away")]
        await limiter.admit(1)
        limiter.now += BACK_OFF
        probe = asyncio.create_task(limiter.admit(1))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert all(await limiter.admit(1))

    _run(check, storage)


def test_a_redis_without_responses_is_not_waited_for() -> None:
    async def main() -> None:
        async with silent_server() as silent:
            limiter = LimiterFixture(open_storage(f"redis://127.0.0.1:{silent.port}/0"))
            with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.2):
                assert await limiter.admit(10) == [{}] * 10
                connected = silent.connections
                assert await limiter.admit(10) == [{}] * 10
                assert silent.connections == connected
                limiter.now += BACK_OFF
                assert await limiter.admit(10) == [{}] * 10
                assert silent.connections == connected + 1
                async with asyncio.timeout(DEADLINE):
                    await limiter.limits.aclose()
            assert limiter.metrics.count_storage_error.call_count == 30
            assert limiter.log.error.call_count == 1

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="processes can't be stopped there")
def test_a_suspended_redis_is_used_again_after_it_continues(tmp_path: Path) -> None:
    async def main(redis: Redis) -> None:
        limiter = LimiterFixture(open_storage(redis.url))
        assert all(await limiter.admit(10))
        redis.process.send_signal(signal.SIGSTOP)
        with mock.patch.object(rate_limits, "_STORAGE_TIMEOUT_SECONDS", 0.2):
            assert await limiter.admit(10) == [{}] * 10
            assert await limiter.admit(10) == [{}] * 10
        redis.process.send_signal(signal.SIGCONT)
        limiter.now += BACK_OFF
        assert all(await limiter.admit(1))
        assert all(await limiter.admit(10))
        assert limiter.metrics.count_storage_error.call_count == 20
        await limiter.limits.aclose()

    with running_redis(tmp_path) as redis:
        asyncio.run(main(redis))


def test_tokens_of_responses_are_counted() -> None:
    async def check(limiter: LimiterFixture) -> None:
        key = _key(tokens_per_minute=1000)
        sink = TokenUsageSink(
            limiter.limits, lambda: ApiKeyRegistry([key, _key("free", requests_per_minute=10)])
        )
        for name in ("alice", "free", "revoked", None):
            observation = Observation("POST", "/v1/messages", api_key_name=name)
            sink.request_started(observation)
            observation.tokens = {
                "input": 10,
                "cache_read": 500,
                "cache_creation": 20,
                "output": 70,
                "thinking": 50,
            }
            sink.request_finished(observation)
        sink.request_finished(Observation("POST", "/v1/messages", api_key_name="alice"))
        TokenUsageSink(limiter.limits, lambda: None).request_finished(
            Observation("GET", "/", api_key_name="alice")
        )
        await asyncio.gather(*limiter.limits._count_tasks)
        assert (await limiter.limits.admit(key, NOW))[
            "anthropic-ratelimit-tokens-remaining"
        ] == "900"

    _run(check)
