"""A stream whose answer takes work first (a summary of the conversation): the client hears that all is well meanwhile.

As with AnswerStream, a failure is raised as long as nothing has been promised to the client. Work that takes longer than
the silence that clients bear is promised: the message starts, pings follow, and a failure becomes an `error` event.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from anthropic_proxy.answer_stream import AnswerStream
from anthropic_proxy.errors import ApiError
from anthropic_proxy.wire import events
from anthropic_proxy.wire.codec import JsonObject

# Seconds; as AnswerStream has it.
SILENCE = 10

Prepared = AnswerStream | list[JsonObject]


class PendingStream:
    """An async iterator over the events of what `work` results in: a stream, or all events at once. `aclose` after use."""

    def __init__(
        self,
        work: Coroutine[Any, Any, Prepared],
        opening: Callable[[], list[JsonObject]],
        request_id: str,
        on_error: Callable[[Exception], None],
    ) -> None:
        """opening: gives message_start and ping, with which the result begins, too. on_error: sees a failure that the
        client is told in its stream.
        """
        self._work = asyncio.ensure_future(work)
        self._opening = opening
        self._request_id = request_id
        self._on_error = on_error
        self._opened = False
        self._answer: AnswerStream | AsyncGenerator[list[JsonObject], None] | None = None

    async def start(self) -> None:
        """Wait for the end of the work, for some seconds. Raises ApiError when it failed in that time."""
        await asyncio.wait({self._work}, timeout=SILENCE)
        if self._work.done():
            self._answer = self._stream(self._work.result())

    def __aiter__(self) -> AsyncIterator[list[JsonObject]]:
        return self

    async def __anext__(self) -> list[JsonObject]:
        if self._answer is not None:
            return await anext(self._answer)
        if not self._opened:
            self._opened = True
            return self._opening()
        await asyncio.wait({self._work}, timeout=SILENCE)
        if not self._work.done():
            return [events.ping()]
        return await self._first()

    async def aclose(self) -> None:
        """Leave the work, or its result."""
        self._work.cancel()
        await asyncio.wait({self._work})
        if self._answer is None and not self._work.cancelled() and self._work.exception() is None:
            self._answer = self._stream(self._work.result())
        if self._answer is not None:
            await self._answer.aclose()

    async def _first(self) -> list[JsonObject]:
        """The first events of the result, without those that have been sent; or the error in its place."""
        try:
            self._answer = self._stream(self._work.result())
        except ApiError as error:
            return self._broken_off(error, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take a cut for an end
            return self._broken_off(error, ApiError(500, "Internal server error"))
        first = await anext(self._answer)
        return first[len(self._opening()) :] or await anext(self._answer)

    def _broken_off(self, error: Exception, told: ApiError) -> list[JsonObject]:
        self._on_error(error)
        self._answer = self._stream([])
        return [told.body(self._request_id)]

    def _stream(self, prepared: Prepared) -> AnswerStream | AsyncGenerator[list[JsonObject], None]:
        return prepared if isinstance(prepared, AnswerStream) else _at_once(prepared)


async def _at_once(prepared: list[JsonObject]) -> AsyncGenerator[list[JsonObject], None]:
    if prepared:
        yield prepared
