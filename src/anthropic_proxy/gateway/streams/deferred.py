"""A stream whose answer takes work first: upstreams that are asked in turn, a summary of the conversation.

As long as nothing has been promised to the client, a failure is raised and keeps its HTTP status. The message begins when
an upstream has accepted the request and does not fail at once, or when it is time that the client hears anything at all;
from then on pings tell that all is well, and a failure is an `error` event. The result is handed through as it is.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.passthrough import PassedStream
from anthropic_proxy.gateway.streams.translated import FIRST_CONTENT, SILENCE, AnswerStream
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds without a status from any upstream. Reverse proxies cut a response without headers after 60 s (nginx and load
# balancers, as they come); Claude Code itself would wait for 600 s.
PATIENCE = 45

Prepared = AnswerStream | PassedStream | list[JsonObject]
Events = list[JsonObject] | bytes
"""Events, or the bytes of some that are passed through."""

_Answer = AnswerStream | PassedStream | AsyncGenerator[list[JsonObject], None]


class PendingStream:
    """An async iterator over the events of what `work` results in: a stream, or all events at once. `aclose` after use."""

    def __init__(
        self,
        work: Coroutine[Any, Any, Prepared],
        opening: Callable[[], list[JsonObject]],
        request_id: str,
        on_error: Callable[[Exception], None],
        accepted: asyncio.Event,
    ) -> None:
        """opening: gives message_start and ping, with which the result begins, too; or nothing, where it may begin in
        another way. on_error: sees a failure that the client is told in its stream. accepted: set by the work when an
        upstream has taken the request.
        """
        self._work = asyncio.ensure_future(work)
        self._accepted = accepted
        # There is nothing more to wait for then.
        self._work.add_done_callback(lambda _: accepted.set())
        self._opening = opening
        self._request_id = request_id
        self._on_error = on_error
        self._sent: list[JsonObject] | None = None
        self._answer: _Answer | None = None

    async def start(self) -> None:
        """Wait until it is sure what to tell the client; once. Raises ApiError when the work failed until then."""
        accepted = self._accepted
        # A stream may be open for long, and this has had its time.
        del self._accepted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._promising(accepted)
        if self._work.done():
            self._go_on(self._work.result())

    async def _promising(self, accepted: asyncio.Event) -> None:
        """Wait until an upstream has accepted the request and had its time to fail. Another may be asked meanwhile."""
        while not self._work.done():
            await accepted.wait()
            await asyncio.wait({self._work}, timeout=FIRST_CONTENT)
            if accepted.is_set():
                return

    def __aiter__(self) -> AsyncIterator[Events]:
        return self

    def __anext__(self) -> Awaitable[Events]:
        # No coroutine of its own: this is called for every event.
        return self._before() if self._answer is None else self._answer.__anext__()

    async def _before(self) -> Events:
        """What is told before the result is there."""
        if self._sent is None:
            self._sent = self._opening()
            return self._sent or [events.ping()]
        await asyncio.wait({self._work}, timeout=SILENCE)
        return await self._first() if self._work.done() else [events.ping()]

    async def aclose(self) -> None:
        """Leave the work, or its result."""
        self._work.cancel()
        await asyncio.wait({self._work})
        if self._answer is None and not self._work.cancelled() and self._work.exception() is None:
            self._go_on(self._work.result())
        if self._answer is not None:
            await self._answer.aclose()

    async def _first(self) -> Events:
        """The first events of the result, without those that have been sent; or the error in its place."""
        try:
            answer = self._go_on(self._work.result())
        except ApiError as error:
            return self._broken_off(error, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take a cut for an end
            return self._broken_off(error, ApiError(500, "Internal server error"))
        first: Events = await anext(answer)
        return first[len(self._sent or ()) :] or await anext(answer)

    def _broken_off(self, error: Exception, told: ApiError) -> list[JsonObject]:
        self._on_error(error)
        self._go_on([])
        return [told.body(self._request_id)]

    def _go_on(self, prepared: Prepared) -> _Answer:
        self._answer = _at_once(prepared) if isinstance(prepared, list) else prepared
        # It has the request within its reach, which may have megabytes; and an answer lasts.
        self._opening = list
        return self._answer


async def _at_once(prepared: list[JsonObject]) -> AsyncGenerator[list[JsonObject], None]:
    if prepared:
        yield prepared
