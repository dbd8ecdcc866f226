"""The interface of the streams that the gateway returns."""

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from anthropic_proxy.wire.json_codec import JsonObject

EventBatch = list[JsonObject] | bytes
"""A list of events, or the bytes of complete events that are passed through."""


class MessageStream(Protocol):
    """The events of a Message, in batches. Call `aclose` after use."""

    def __aiter__(self) -> AsyncIterator[EventBatch]: ...

    def __anext__(self) -> Awaitable[EventBatch]: ...

    async def aclose(self) -> None: ...


class EventListStream:
    """A stream whose events are all known in advance."""

    def __init__(self, events: list[JsonObject]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[EventBatch]:
        return self

    async def __anext__(self) -> EventBatch:
        if not self._events:
            raise StopAsyncIteration
        batch, self._events = self._events, []
        return batch

    async def aclose(self) -> None:
        """Drop the events that have not been read."""
        self._events = []
