"""How much a client's key may use: requests and tokens of a minute, and tokens of a month.

A minute begins with its first request, a month is one of the calendar in UTC. A request is counted when it comes. Its
tokens are known when its answer has ended: a request is let in while anything is left, and the last one may take more.
Where the counters can't be reached, requests go on: limits protect, and must not be what takes the service away.
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

from anthropic_proxy.auth.api_keys import ClientKey, ClientKeys, Reason, RefusedError
from anthropic_proxy.auth.sqlite_storage import Opened
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation

# Seconds until counters count as out of reach.
_SECONDS = 2.0
# Seconds for which they are not tried again then. Requests would wait, and a storage under load would get more of it.
_BACK_OFF_SECONDS = 5.0

# Cached input is not counted, as Anthropic doesn't (its page on rate limits).
_COUNTED = ("input", "cache_creation", "output")

_LATER = "it may be sent again in {seconds} s"


@dataclass(frozen=True)
class _Window:
    """What may be used of something within a time. unit: as the headers call it. resets: for windows of the calendar."""

    reason: Reason
    unit: str
    item: RateLimitItem
    identifiers: tuple[str, ...]
    resets: datetime | None = None


@dataclass(frozen=True)
class _State:
    window: _Window
    is_left: bool
    stats: WindowStats

    @property
    def resets(self) -> datetime:
        return self.window.resets or datetime.fromtimestamp(self.stats.reset_time, UTC)

    def headers(self) -> Iterator[tuple[str, str]]:
        """Anthropic's headers of rate limits."""
        prefix = f"anthropic-ratelimit-{self.window.unit}"
        yield f"{prefix}-limit", str(self.window.item.amount)
        yield f"{prefix}-remaining", str(self.stats.remaining)
        yield f"{prefix}-reset", self.resets.strftime("%Y-%m-%dT%H:%M:%SZ")


class Told(Protocol):
    """Who is told that the counters could not be reached."""

    def limits_failed(self) -> None: ...


class RateLimits:
    """The limits of all keys. `aclose` when the last request has ended."""

    def __init__(
        self, opened: Opened, log: Log, told: Told, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: monotonic time in seconds."""
        self._clock = clock
        self._opened = opened
        self._limiter = FixedWindowRateLimiter(opened.storage)
        errors = opened.storage.base_exceptions
        self._errors: tuple[type[Exception], ...] = (
            *(errors if isinstance(errors, tuple) else (errors,)),
            OSError,
            TimeoutError,
        )
        self._log = log
        self._told = told
        self._charging: set[asyncio.Task[None]] = set()
        self._abandoned: set[asyncio.Task[None]] = set()
        self._is_out_of_reach = False
        self._is_probing = False
        self._next_probe = -math.inf

    async def admit(self, key: ClientKey, now: datetime) -> dict[str, str]:
        """Count a request of a key's. Returns the headers that say what is left. Raises RefusedError (429)."""
        windows = list(_windows(key, now))
        if not windows:
            return {}
        states: list[_State] = []

        async def count() -> None:
            states.extend(await asyncio.gather(*map(self._counted, windows)))

        await self._reach(count)
        # Of two limits for the same thing the headers tell the one that has less left.
        states.sort(key=lambda state: -state.stats.remaining)
        headers = dict(header for state in states for header in state.headers())
        used_up = [state for state in states if not state.is_left]
        if used_up:
            raise _refused(max(used_up, key=lambda state: state.resets), headers, now)
        return headers

    async def charge(self, key: ClientKey, tokens: int, now: datetime) -> None:
        """Count the tokens of an answer."""

        async def count() -> None:
            for window in _windows(key, now):
                if window.unit == "tokens":
                    await self._limiter.hit(window.item, *window.identifiers, cost=tokens)

        await self._reach(count)

    def charge_later(self, key: ClientKey, tokens: int) -> None:
        """`charge`, while other things go on."""
        task = asyncio.create_task(self.charge(key, tokens, datetime.now(UTC)))
        self._charging.add(task)
        task.add_done_callback(self._charging.discard)

    async def aclose(self) -> None:
        """Count what is still to be counted."""
        await asyncio.gather(*self._charging)
        try:
            await self._in_time(self._opened.aclose())
        except self._errors as error:
            self._log.error("rate limit storage not closed", error=str(error) or repr(error))

    async def _counted(self, window: _Window) -> _State:
        count = self._limiter.hit if window.unit == "requests" else self._limiter.test
        is_left = await count(window.item, *window.identifiers)
        return _State(
            window, is_left, await self._limiter.get_window_stats(window.item, *window.identifiers)
        )

    async def _reach(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something with the counters, or nothing where they are out of reach: log that once, and count it always."""
        is_probe = self._is_out_of_reach
        if is_probe and (self._is_probing or self._clock() < self._next_probe):
            self._told.limits_failed()
            return
        self._is_probing = is_probe or self._is_probing
        try:
            await self._in_time(work())
        except self._errors as error:
            self._failed(error)
        else:
            self._succeeded()
        finally:
            if is_probe:
                self._is_probing = False

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work, and abandon it when it takes too long. Raises TimeoutError.

        Cancelled work is not waited for, as `asyncio.timeout` would: a client of a storage may take seconds to give up its
        connection.
        """
        task = asyncio.create_task(work)
        try:
            await asyncio.wait([task], timeout=_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned.add(task)
                task.add_done_callback(self._forget)
        if not task.done():
            raise TimeoutError(f"no answer within {_SECONDS:g} s")
        task.result()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # of no interest any more, and logged by asyncio unless it is retrieved

    def _failed(self, error: Exception) -> None:
        self._told.limits_failed()
        self._next_probe = self._clock() + _BACK_OFF_SECONDS
        if not self._is_out_of_reach:
            self._log.error(
                "rate limits can't be counted, and all requests are let in",
                error=str(error) or repr(error),
            )
        self._is_out_of_reach = True

    def _succeeded(self) -> None:
        if self._is_out_of_reach:
            self._log.info("rate limits are counted again")
        self._is_out_of_reach = False


class Charges:
    """A sink of observations: the tokens of each answer are counted for the key that it was asked with."""

    def __init__(self, limits: RateLimits, keys: Callable[[], ClientKeys | None]) -> None:
        self._limits = limits
        self._keys = keys

    def began(self, observation: Observation) -> None:
        """Nothing is known of it yet."""

    def finished(self, observation: Observation) -> None:
        """Count its tokens, where its key has a limit of them."""
        keys = self._keys()
        key = keys.named(observation.client_key) if keys and observation.client_key else None
        tokens = sum(observation.tokens.get(kind, 0) for kind in _COUNTED)
        if key is not None and tokens and key.limits.of_tokens:
            self._limits.charge_later(key, tokens)


def _windows(key: ClientKey, now: datetime) -> Iterator[_Window]:
    limits, name = key.limits, (key.name,)
    if limits.requests_per_minute is not None:
        yield _Window(
            "requests_per_minute",
            "requests",
            RateLimitItemPerMinute(limits.requests_per_minute),
            name,
        )
    if limits.tokens_per_minute is not None:
        minute = RateLimitItemPerMinute(limits.tokens_per_minute, namespace="TOKENS")
        yield _Window("tokens_per_minute", "tokens", minute, name)
    if limits.tokens_per_month is not None:
        # Two of its months of thirty days, as the calendar's may be longer than one; each has a counter of its own.
        month = RateLimitItemPerMonth(limits.tokens_per_month, 2, namespace="TOKENS")
        yield _Window(
            "tokens_per_month", "tokens", month, (*name, f"{now:%Y-%m}"), _next_month(now)
        )


def _next_month(now: datetime) -> datetime:
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


def _refused(state: _State, headers: dict[str, str], now: datetime) -> RefusedError:
    seconds = max(math.ceil((state.resets - now).total_seconds()), 1)
    what, _, time = state.window.reason.replace("_", " ").rpartition(" per ")
    message = (
        f"Your API key may use {state.window.item.amount} {what} per {time}, which are used up; "
    )
    headers = {**headers, "retry-after": str(seconds)}
    if state.window.resets is not None:
        # Clients would ask again within the minute.
        headers["x-should-retry"] = "false"
    return RefusedError(429, message + _LATER.format(seconds=seconds), state.window.reason, headers)
