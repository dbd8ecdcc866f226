"""Rate limits of API keys: requests and tokens per minute, tokens per month.

A one-minute window starts at the first request of the key. A month is a calendar month in UTC. A
request is counted when it arrives, but its tokens are counted when its response has ended. So a
request is admitted while any tokens are left, and the last request may exceed the limit. If the
counters are unreachable, all requests are admitted: rate limits protect the service, so their
failure must not stop it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerMonth, WindowStats
from limits.aio.strategies import FixedWindowRateLimiter

from anthropic_proxy.auth.api_keys import (
    ApiKey,
    ApiKeyRegistry,
    DenialReason,
    RequestDeniedError,
    describe_limit,
)
from anthropic_proxy.auth.counter_storage import StorageHandle
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation

# Seconds. After this time without a response, the counters are considered unreachable.
_STORAGE_TIMEOUT_SECONDS = 2.0
# Seconds without an attempt after a failure. Attempts would delay requests, and increase the load
# of an overloaded storage.
_BACK_OFF_SECONDS = 5.0

# Cached input does not count, as in Anthropic's API (its page on rate limits).
_COUNTED_TOKEN_KINDS = ("input", "cache_creation", "output")


@dataclass(frozen=True)
class _Window:
    """A limit within a time window."""

    reason: DenialReason
    # The unit in the names of the response headers: "requests" or "tokens".
    unit: str
    item: RateLimitItem
    identifiers: tuple[str, ...]
    # The end of a calendar month. None: use the reset time of the storage.
    resets: datetime | None = None


@dataclass(frozen=True)
class _WindowState:
    window: _Window
    is_allowed: bool
    stats: WindowStats

    @property
    def resets(self) -> datetime:
        return self.window.resets or datetime.fromtimestamp(self.stats.reset_time, UTC)

    def build_headers(self) -> Iterator[tuple[str, str]]:
        """Yield the names and values of Anthropic's rate limit headers."""
        prefix = f"anthropic-ratelimit-{self.window.unit}"
        yield f"{prefix}-limit", str(self.window.item.amount)
        yield f"{prefix}-remaining", str(self.stats.remaining)
        yield f"{prefix}-reset", self.resets.strftime("%Y-%m-%dT%H:%M:%SZ")


class StorageErrorReporter(Protocol):
    """Interface of an object that counts the failed operations on the counters."""

    def count_storage_error(self) -> None: ...


class RateLimiter:
    """Counts the requests and tokens of all keys. Call `aclose` after the last request."""

    def __init__(
        self,
        storage_handle: StorageHandle,
        log: Log,
        error_reporter: StorageErrorReporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a limiter. clock: monotonic, in seconds."""
        self._clock = clock
        self._storage_handle = storage_handle
        # Only this strategy can count tokens after a response. Its disadvantage: within a minute
        # that includes the boundary of two windows, a key may use twice its limit.
        self._limiter = FixedWindowRateLimiter(storage_handle.storage)
        errors = storage_handle.storage.base_exceptions
        if not isinstance(errors, tuple):
            errors = (errors,)
        self._storage_errors: tuple[type[Exception], ...] = (*errors, OSError, TimeoutError)
        self._log = log
        self._error_reporter = error_reporter
        self._count_tasks: set[asyncio.Task[None]] = set()
        self._abandoned_tasks: set[asyncio.Task[None]] = set()
        self._is_unavailable = False
        self._is_probing = False
        self._next_probe = -math.inf

    async def admit(self, key: ApiKey, now: datetime) -> dict[str, str]:
        """Count a request, and return the rate limit headers for its response.

        Raises RequestDeniedError (429) if a limit is exceeded.
        """
        windows = list(_key_windows(key, now))
        if not windows:
            return {}
        states: list[_WindowState] = []

        async def count_windows() -> None:
            states.extend(await asyncio.gather(*map(self._count_window, windows)))

        await self._run_on_storage(count_windows)
        # If two limits have the same unit, the headers show the limit with less remaining.
        states.sort(key=lambda state: -state.stats.remaining)
        headers: dict[str, str] = {}
        for state in states:
            headers.update(state.build_headers())
        exhausted = [state for state in states if not state.is_allowed]
        if exhausted:
            raise _build_denial(max(exhausted, key=lambda state: state.resets), headers, now)
        return headers

    async def count_tokens(self, key: ApiKey, tokens: int, now: datetime) -> None:
        """Count the tokens of a response."""

        async def count_in_windows() -> None:
            for window in _key_windows(key, now):
                if window.unit == "tokens":
                    await self._limiter.hit(window.item, *window.identifiers, cost=tokens)

        await self._run_on_storage(count_in_windows)

    def schedule_token_count(self, key: ApiKey, tokens: int) -> None:
        """Run `count_tokens` in the background."""
        task = asyncio.create_task(self.count_tokens(key, tokens, datetime.now(UTC)))
        self._count_tasks.add(task)
        task.add_done_callback(self._count_tasks.discard)

    async def aclose(self) -> None:
        """Wait for the scheduled counts, and close the storage."""
        await asyncio.gather(*self._count_tasks)
        try:
            await self._run_with_timeout(self._storage_handle.aclose())
        except self._storage_errors as error:
            self._log.error("rate limit storage close failed", error=str(error) or repr(error))

    async def _count_window(self, window: _Window) -> _WindowState:
        """Count the request if the window counts requests; return the state of the window."""
        # `hit` counts the request, `test` does not.
        check = self._limiter.hit if window.unit == "requests" else self._limiter.test
        is_allowed = await check(window.item, *window.identifiers)
        stats = await self._limiter.get_window_stats(window.item, *window.identifiers)
        return _WindowState(window, is_allowed, stats)

    async def _run_on_storage(self, operation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run an operation on the counters, or skip it while they are unreachable.

        Only the first failure is logged. The error reporter receives all of them.
        """
        is_probe = self._is_unavailable
        if is_probe and (self._is_probing or self._clock() < self._next_probe):
            self._error_reporter.count_storage_error()
            return
        if is_probe:
            self._is_probing = True
        try:
            await self._run_with_timeout(operation())
        except self._storage_errors as error:
            self._record_failure(error)
        else:
            self._record_success()
        finally:
            if is_probe:
                self._is_probing = False

    async def _run_with_timeout(self, operation: Coroutine[Any, Any, None]) -> None:
        """Wait for an operation, and abandon it after the timeout. Raises TimeoutError.

        Unlike `asyncio.timeout`, this does not wait for the cancelled operation, because a storage
        client may need seconds to close its connection.
        """
        task = asyncio.create_task(operation)
        try:
            await asyncio.wait([task], timeout=_STORAGE_TIMEOUT_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned_tasks.add(task)
                task.add_done_callback(self._discard_task)
        if not task.done():
            raise TimeoutError(f"no response within {_STORAGE_TIMEOUT_SECONDS:g} s")
        task.result()

    def _discard_task(self, task: asyncio.Task[None]) -> None:
        self._abandoned_tasks.discard(task)
        if not task.cancelled():
            # Retrieve the exception, because asyncio would log it otherwise.
            task.exception()

    def _record_failure(self, error: Exception) -> None:
        self._error_reporter.count_storage_error()
        self._next_probe = self._clock() + _BACK_OFF_SECONDS
        if not self._is_unavailable:
            self._log.error("rate limit counting suspended", error=str(error) or repr(error))
        self._is_unavailable = True

    def _record_success(self) -> None:
        if self._is_unavailable:
            self._log.info("rate limit counting resumed")
        self._is_unavailable = False


class TokenUsageSink:
    """An observation sink that counts the tokens of each response for its key."""

    def __init__(self, limits: RateLimiter, keys: Callable[[], ApiKeyRegistry | None]) -> None:
        self._limits = limits
        self._keys = keys

    def request_started(self, observation: Observation) -> None:
        """Do nothing, because the tokens are not known yet."""

    def request_finished(self, observation: Observation) -> None:
        """Count the tokens for the key if it has a token limit."""
        keys, name = self._keys(), observation.api_key_name
        key = keys.find(name) if keys and name else None
        tokens = sum(observation.tokens.get(kind, 0) for kind in _COUNTED_TOKEN_KINDS)
        if key is not None and tokens and key.limits.has_token_limit:
            self._limits.schedule_token_count(key, tokens)


def _key_windows(key: ApiKey, now: datetime) -> Iterator[_Window]:
    limits, name = key.limits, key.name
    if limits.requests_per_minute is not None:
        item: RateLimitItem = RateLimitItemPerMinute(limits.requests_per_minute)
        yield _Window("requests_per_minute", "requests", item, (name,))
    if limits.tokens_per_minute is not None:
        item = RateLimitItemPerMinute(limits.tokens_per_minute, namespace="TOKENS")
        yield _Window("tokens_per_minute", "tokens", item, (name,))
    if limits.tokens_per_month is not None:
        # Each calendar month has its own counter. It expires after two months of 30 days, because
        # a calendar month may have more than 30 days.
        item = RateLimitItemPerMonth(limits.tokens_per_month, 2, namespace="TOKENS")
        identifiers = (name, f"{now:%Y-%m}")
        yield _Window("tokens_per_month", "tokens", item, identifiers, _start_of_next_month(now))


def _start_of_next_month(now: datetime) -> datetime:
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


def _build_denial(
    state: _WindowState, headers: dict[str, str], now: datetime
) -> RequestDeniedError:
    window = state.window
    seconds = max(math.ceil((state.resets - now).total_seconds()), 1)
    limit = describe_limit(window.reason, window.item.amount)
    message = f"Rate limit exceeded: {limit} for this API key. Retry in {seconds} s."
    headers = headers | {"retry-after": str(seconds)}
    if window.resets is not None:
        # Without this header, clients would retry within a minute.
        headers["x-should-retry"] = "false"
    return RequestDeniedError(429, message, window.reason, headers)
