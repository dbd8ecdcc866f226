"""A stream whose response needs work first: several upstreams tried in turn, or a summary of the conversation.

As long as nothing has been promised to the client, a failure is raised and keeps its HTTP status. The message begins when
an upstream has accepted the request and does not fail at once, or when it is time that the client hears anything at all;
from then on pings tell that all is well, and a failure is an `error` event. The result is handed through as it is.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.gateway.streams.translated import (
    FIRST_CONTENT_SECONDS,
    SILENCE_SECONDS,
    TranslatedStream,
)
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds without a status from any upstream. Reverse proxies cut a response without headers after 60 s (nginx and load
# balancers, as they come); Claude Code itself would wait for 600 s.
START_TIMEOUT = 45

StreamResult = TranslatedStream | PassthroughStream | list[JsonObject]
EventBatch = list[JsonObject] | bytes
"""Events, or the bytes of some that are passed through."""

_Stream = TranslatedStream | PassthroughStream | AsyncGenerator[list[JsonObject], None]


class DeferredStream:
    """An async iterator over the events of what `work` results in: a stream, or all events at once. `aclose` after use."""

    def __init__(
        self,
        work: Coroutine[Any, Any, StreamResult],
        opening_events: Callable[[], list[JsonObject]],
        request_id: str,
        on_error: Callable[[Exception], None],
        accepted: asyncio.Event,
    ) -> None:
        """Start `work`.

        opening_events: returns message_start and ping, with which the result of `work` begins as well; or nothing, where
        it may begin differently. on_error: called with a failure that is sent within the stream. accepted: set by `work`
        when an upstream has accepted the request.
        """
        self._task = asyncio.ensure_future(work)
        self._accepted = accepted
        # There is nothing more to wait for then.
        self._task.add_done_callback(lambda _: accepted.set())
        self._opening_events = opening_events
        self._request_id = request_id
        self._on_error = on_error
        self._sent_events: list[JsonObject] | None = None
        self._stream: _Stream | None = None

    async def start(self) -> None:
        """Wait until it is sure what to tell the client; once. Raises ApiError when the work failed until then."""
        accepted = self._accepted
        # A stream may be open for long, and this has had its time.
        del self._accepted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                await self._wait_until_accepted(accepted)
        if self._task.done():
            self._continue_with(self._task.result())

    async def _wait_until_accepted(self, accepted: asyncio.Event) -> None:
        """Wait until an upstream has accepted the request and had its time to fail. Another may be asked meanwhile."""
        while not self._task.done():
            await accepted.wait()
            await asyncio.wait({self._task}, timeout=FIRST_CONTENT_SECONDS)
            if accepted.is_set():
                return

    def __aiter__(self) -> AsyncIterator[EventBatch]:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        # No coroutine of its own: this is called for every event.
        return self._next_before_result() if self._stream is None else self._stream.__anext__()

    async def _next_before_result(self) -> EventBatch:
        """What is told before the result is there."""
        if self._sent_events is None:
            self._sent_events = self._opening_events()
            return self._sent_events or [events.ping()]
        await asyncio.wait({self._task}, timeout=SILENCE_SECONDS)
        return await self._first_of_result() if self._task.done() else [events.ping()]

    async def aclose(self) -> None:
        """Leave the work, or its result."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._stream is None and not self._task.cancelled() and self._task.exception() is None:
            self._continue_with(self._task.result())
        if self._stream is not None:
            await self._stream.aclose()

    async def _first_of_result(self) -> EventBatch:
        """The first events of the result, without those that have been sent; or the error in its place."""
        try:
            stream = self._continue_with(self._task.result())
        except ApiError as error:
            return self._fail(error, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take a cut for an end
            return self._fail(error, ApiError(500, "Internal server error"))
        first_events: EventBatch = await anext(stream)
        return first_events[len(self._sent_events or ()) :] or await anext(stream)

    def _fail(self, error: Exception, api_error: ApiError) -> list[JsonObject]:
        self._on_error(error)
        self._continue_with([])
        return [api_error.body(self._request_id)]

    def _continue_with(self, result: StreamResult) -> _Stream:
        self._stream = _yield_once(result) if isinstance(result, list) else result
        # The function refers to the request, which may have megabytes, and a response may take minutes.
        self._opening_events = list
        return self._stream


async def _yield_once(result: list[JsonObject]) -> AsyncGenerator[list[JsonObject], None]:
    if result:
        yield result
