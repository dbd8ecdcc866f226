"""A stream that can begin before an upstream has responded.

The response may be delayed, because several upstreams are tried or a conversation is summarized.
Until the stream begins, a failure is raised and returned to the client with its HTTP status. The
stream begins when an upstream has accepted the request and does not fail at once, or after
START_TIMEOUT. From then on, pings keep the connection open, and a failure is an `error` event.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.acceptance import Acceptance
from anthropic_proxy.gateway.streams.base import FIRST_CONTENT_SECONDS, SILENCE_SECONDS
from anthropic_proxy.gateway.streams.message_stream import (
    EventBatch,
    EventListStream,
    MessageStream,
)
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds. Without response headers, reverse proxies close a connection after 60 s (the default of
# nginx and of load balancers). Claude Code waits for 600 s.
START_TIMEOUT = 45


# The states of a DeferredStream. Only the first state has `opening_events`: it refers to the
# request, which may be several megabytes, and the stream may be open for minutes.


@dataclass(frozen=True)
class _Unopened:
    """The client has received nothing."""

    opening_events: Callable[[], list[JsonObject]]


@dataclass(frozen=True)
class _Waiting:
    """The client has received the opening events, and receives pings until `work` has finished."""

    opening_count: int


@dataclass(frozen=True)
class _Resolved:
    """The client receives the events of the stream that `work` returned."""

    stream: MessageStream


class DeferredStream:
    """The events of the stream that `work` returns.

    Call `start` before the first event, and `aclose` after use.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, MessageStream],
        opening_events: Callable[[], list[JsonObject]],
        request_id: str,
        on_error: Callable[[Exception], None],
        accepted: Acceptance,
    ) -> None:
        """Start `work`.

        Args:
            opening_events: returns the first events of the stream that `work` returns
                (message_start and ping), or an empty list if they are not known in advance.
            on_error: called with a failure that is sent as an event of the stream.
            accepted: set by `work` when an upstream has accepted the request.
        """
        self._task = asyncio.ensure_future(work)
        self._accepted = accepted
        # Wake up `_wait_until_accepted` when `work` has finished.
        self._task.add_done_callback(lambda _: accepted.set())
        self._request_id = request_id
        self._on_error = on_error
        self._state: _Unopened | _Waiting | _Resolved = _Unopened(opening_events)

    async def start(self) -> None:
        """Wait until the stream can begin.

        If `work` fails before that, close the stream and raise ApiError.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT):
                    await self._wait_until_accepted()
            if self._task.done():
                self._resolve(self._task.result())
        except BaseException:
            await self.aclose()
            raise

    async def _wait_until_accepted(self) -> None:
        """Wait until an upstream has accepted the request and FIRST_CONTENT_SECONDS have passed.

        If the upstream fails in this time, `work` may send the request to another upstream, which
        gets the same time.
        """
        while not self._task.done():
            await self._accepted.wait()
            count = self._accepted.count
            await asyncio.wait({self._task}, timeout=FIRST_CONTENT_SECONDS)
            if self._accepted.is_set() and self._accepted.count == count:
                return

    def unwrap(self) -> MessageStream:
        """Return the stream that `work` returned if it has finished, otherwise this stream."""
        if isinstance(self._state, _Resolved):
            return self._state.stream
        return self

    def __aiter__(self) -> AsyncIterator[EventBatch]:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        # Not a coroutine: this is called for every batch.
        match self._state:
            case _Unopened(opening_events=opening_events):
                return self._open(opening_events)
            case _Waiting(opening_count=opening_count):
                return self._wait_for_result(opening_count)
            case _Resolved(stream=stream):
                return stream.__anext__()

    async def _open(self, opening_events: Callable[[], list[JsonObject]]) -> EventBatch:
        opening = opening_events()
        self._state = _Waiting(len(opening))
        return opening or [events.ping()]

    async def _wait_for_result(self, opening_count: int) -> EventBatch:
        """Return a ping, or the first events after the opening events if `work` has finished."""
        await asyncio.wait({self._task}, timeout=SILENCE_SECONDS)
        if not self._task.done():
            return [events.ping()]
        try:
            stream = self._resolve(self._task.result())
        except ApiError as error:
            return self._resolve_to_error(error, error)
        except Exception as error:  # noqa: BLE001 - a bug must not look like the end of a stream
            return self._resolve_to_error(error, ApiError(500, "Internal server error"))
        first_events: EventBatch = await anext(stream)
        return first_events[opening_count:] or await anext(stream)

    def _resolve_to_error(self, error: Exception, api_error: ApiError) -> list[JsonObject]:
        """End the stream, and return its last event, which reports `api_error` to the client."""
        self._on_error(error)
        self._resolve(EventListStream([]))
        return [api_error.body(self._request_id)]

    def _resolve(self, stream: MessageStream) -> MessageStream:
        self._state = _Resolved(stream)
        return stream

    async def aclose(self) -> None:
        """Cancel `work`, or close the stream that it returned. May be called again."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if isinstance(self._state, _Resolved):
            await self._state.stream.aclose()
        elif not self._task.cancelled() and self._task.exception() is None:
            await self._resolve(self._task.result()).aclose()
