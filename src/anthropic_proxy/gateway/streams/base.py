"""Base class of a stream from an upstream to a client: start, events, silence, failure, end.

`start` waits until the response begins. Until then the client has received nothing, so a failure is
raised, and another upstream may serve the request. Later failures become an `error` event.

A stream is not a generator, because a generator that was never started does not run its `finally`
block. `aclose` always closes the upstream's response.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.payloads import BodyFormat, detect_format

# Seconds. How long deferred and passed-through streams wait for the first content after the first
# bytes of a response: some upstreams report an overload only within the stream.
FIRST_CONTENT_SECONDS = 1

# Seconds without an event after which the client receives a ping. Claude Code closes a stream that
# sends nothing for some minutes.
SILENCE_SECONDS = 10

# Seconds. How long a stream waits for the usage after a finish reason. Some servers send none, and
# keep the connection open, even with heartbeats (maximhq/bifrost#6784).
USAGE_SECONDS = 1

# The formats of bodies that are read as a whole.
_DOCUMENT_FORMATS = (BodyFormat.JSON, BodyFormat.MARKUP)


class ReadLogger(Protocol):
    """Logs bytes of a response."""

    def __call__(self, data: bytes, *, is_complete: bool) -> None:
        """Log the bytes of one read, or of a complete body that is not streamed."""


Batch = TypeVar("Batch", bound=list[JsonObject] | bytes)


class EventStream(ABC, Generic[Batch]):
    """An asynchronous iterator over the events of a response.

    Each batch contains the events of one read. Reads without a complete event return no batch. Call
    `start` before the first batch, and `aclose` after use.
    """

    def __init__(
        self,
        response: UpstreamResponse,
        request_id: str,
        output: Batch,
        *,
        on_read: ReadLogger | None,
        on_end: Callable[[Any], None],
    ) -> None:
        """Read `response`.

        Args:
            output: an empty batch, the first value of `_output`.
            on_read: called for each read.
            on_end: called with this stream once, when it is closed.
        """
        # True if the response has begun.
        self.started = False
        # The error that ended the response.
        self.error: ApiError | None = None
        # The exception behind `error` if it is a bug of the proxy.
        self.unexpected_error: Exception | None = None
        self._response = response
        self._request_id = request_id
        self._on_read = on_read
        self._on_end: Callable[[Any], None] | None = on_end
        self._loop = asyncio.get_running_loop()
        # The format of the body. None until its first byte has arrived.
        self._format: BodyFormat | None = None
        # Events for the next batch.
        self._output = output
        # True if no events follow those of `_output`.
        self._is_finished = False
        # True if the upstream has sent everything that belongs to the message.
        self._is_input_complete = False
        # The time at which the message is complete without more input, on the event loop's clock.
        self._complete_at = math.inf

    async def start(self) -> None:
        """Wait until the response begins.

        If it fails before that, close the stream and raise ApiError.
        """
        try:
            await self._wait_for_content()
        except ApiError as error:
            self.error = error
            await self.aclose()
            raise
        except BaseException:
            await self.aclose()
            raise
        self._response.end_first_token_limit()
        self.started = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        silent_until = self._loop.time() + SILENCE_SECONDS
        try:
            while not self._output and not self._is_finished:
                if not await self._step(min(silent_until, self._complete_at)):
                    self._handle_silence()
        except ApiError as error:
            self._finish_with_error(error)
        except Exception as error:  # noqa: BLE001 - a bug must not look like the end of a stream
            self.unexpected_error = error
            self._finish_with_error(ApiError(500, "Internal server error"))
        if not self._output:
            await self.aclose()
            raise StopAsyncIteration
        return self._take_output()

    async def aclose(self) -> None:
        """Release the connection after a complete response; otherwise close it. Repeatable."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        try:
            if self._is_input_complete:
                await self._response.release()
            else:
                await self._response.aclose()
        finally:
            on_end(self)

    async def _step(self, until: float) -> bool:
        """Process one read. Return False if no bytes arrived in time. Raises ApiError.

        until: in seconds of the event loop's clock.
        """
        try:
            data = await self._response.read_available(until)
        except ApiError:
            if not self._is_message_complete():
                raise
            data = None
        if data is None:
            self._is_input_complete = True
            self._end_of_input()
        elif data:
            if self._format is None:
                self._format = detect_format(data)
            if self._format in _DOCUMENT_FORMATS:
                await self._read_document(data)
            else:
                if self._on_read is not None:
                    self._on_read(data, is_complete=False)
                self._feed(data)
        if self._is_finished and not self._is_input_complete:
            # A stop sequence was found, or the usage did not arrive: the upstream should stop.
            await self._response.aclose()
        return data != b""

    async def _read_document(self, beginning: bytes) -> None:
        """Read a complete body, which an upstream sent instead of a stream of events."""
        body = await self._response.read(beginning)
        self._is_input_complete = True
        if self._on_read is not None:
            self._on_read(body, is_complete=True)
        await self._convert_document(body)
        self._is_finished = True

    def _is_message_complete(self) -> bool:
        """Return whether the message is complete, so that a failed read only ends the stream."""
        return False

    @abstractmethod
    def _take_output(self) -> Batch:
        """Return `_output`, and reset it."""

    @abstractmethod
    async def _wait_for_content(self) -> None:
        """Read until the response begins. Raises ApiError."""

    @abstractmethod
    async def _convert_document(self, body: bytes) -> None:
        """Add the events for a body that is not a stream of events. Raises ApiError."""

    @abstractmethod
    def _feed(self, data: bytes) -> None:
        """Add the events for the bytes of one read to `_output`. Raises ApiError."""

    @abstractmethod
    def _end_of_input(self) -> None:
        """Add the last events to `_output`. Raises ApiError if the response is incomplete."""

    @abstractmethod
    def _handle_silence(self) -> None:
        """Add a ping to `_output`, or finish the stream."""

    @abstractmethod
    def _finish_with_error(self, error: ApiError) -> None:
        """Finish the stream with an `error` event."""
