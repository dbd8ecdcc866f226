"""A stream that is passed through: the upstream's bytes in, the same bytes out, event by event.

What has come of an event is held until its end, so that whatever has to be added, a ping in a silence or an error where the
stream breaks off, stands between two events. Nothing is parsed: the ends of events are looked for, and at the very end the
name of the last event. `start` waits for the first content, a second after the first event at most: until then a failure is
raised, and another upstream may be asked.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.gateway.streams.translated import FIRST_CONTENT_SECONDS, SILENCE_SECONDS
from anthropic_proxy.translate import passthrough
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity
from anthropic_proxy.upstream.client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import loads_object
from anthropic_proxy.wire.sse import MAX_EVENT_BYTES, SSEDecoder, encode_event

# An empty line, after which an event is whole; lines end in LF, CRLF or CR.
_EMPTY_LINES = (b"\n\n", b"\n\r\n", b"\r\r")

# A line break can't stand within the data of an event, so no text of the model looks like this.
_CONTENT_START = re.compile(rb"(?:^|[\r\n])event: ?(?:content_block|message_delta|message_stop)")
_ERROR = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")
# As above: in what a model writes the quotes are escaped.
_TOOL_USE = re.compile(rb'"type": ?"tool_use"')
# Stands twice in each event with a piece of the response, which has about so many bytes besides.
_DELTA = b"content_block_delta"
_EVENT_BYTES = 115
_BYTES_PER_TOKEN = 4
_MESSAGE_END = re.compile(rb"(?:^|[\r\n])event: ?(?:message_stop|error)[\r\n]")
# Bytes; the last event is much shorter.
_TAIL_BYTES = 4096

_NON_STREAM_TYPES = ("application/json", "text/html")


class PassthroughStream:
    """An async iterator over bytes, one piece for each read in which an event ends. `aclose` after use."""

    def __init__(
        self,
        response: UpstreamResponse,
        identity: UpstreamIdentity,
        request_id: str,
        *,
        on_read: Callable[[bytes], None] | None,
        on_end: Callable[["PassthroughStream"], None],
    ) -> None:
        """on_read: sees what the upstream sent. on_end: sees the stream, once, when it is over."""
        self.error: ApiError | None = None
        self._response = response
        self._upstream_name = identity.name
        self._request_id = request_id
        self._redact = identity.redact
        self._on_read = on_read
        self._on_end: Callable[[PassthroughStream], None] | None = on_end
        self._output = b""
        self._tail = b""
        self._partial_event = bytearray()
        # The events that tell of usage, which are few: within the text of a model the quotes are escaped.
        self._usage_events = bytearray()
        self.tool_calls = 0
        # Tokens, where the upstream does not tell them.
        self.input_estimate = 0
        self.started = False
        self._delta_names = 0
        self._delta_bytes = 0
        self._is_finished = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Wait for the first content. Raises ApiError when the response ends before, or begins with an error."""
        try:
            await self._start()
        except ApiError as error:
            self.error = error
            raise
        self.started = True

    @property
    def usage_events(self) -> bytes:
        """The events that tell of usage."""
        return bytes(self._usage_events)

    @property
    def output_estimate(self) -> int:
        """Tokens of the output that has come: one for each piece, or for every four bytes of them, whichever is more. It is
        rough, as nothing of the events is parsed.
        """
        deltas = self._delta_names // 2
        return max(deltas, (self._delta_bytes - _EVENT_BYTES * deltas) // _BYTES_PER_TOKEN)

    async def _start(self) -> None:
        media_type = (
            self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        )
        if media_type in _NON_STREAM_TYPES:
            raise ApiError(
                500,
                f"The upstream {self._upstream_name} answered 200 with something that is no stream of events: {media_type}",
            )
        opening = bytearray()
        until = math.inf
        # Also an upstream that never pauses has no longer than this.
        while not self._is_finished and self._loop.time() < until:
            data = await self._read(until)
            if data is None:
                self._end_of_input()
            elif data:
                self._feed(data)
            # Only what is new is searched; whole events are, so no name is cut.
            complete_events, self._output = self._output, b""
            opening += complete_events
            if _CONTENT_START.search(complete_events):
                break
            if _ERROR.search(complete_events):
                raise self._opening_error(bytes(opening))
            if opening and until == math.inf:
                until = self._loop.time() + FIRST_CONTENT_SECONDS
        self._output = bytes(opening)

    def _opening_error(self, opening: bytes) -> ApiError:
        """Return the error that the stream begins with."""
        payloads = SSEDecoder().feed(opening)
        error = next(filter(None, map(passthrough.parse_event_error, payloads)), None)
        return error or ApiError(
            500, f"The upstream {self._upstream_name} broke off its answer with an error"
        )

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        silent_until = self._loop.time() + SILENCE_SECONDS
        try:
            while not self._output and not self._is_finished:
                data = await self._read(silent_until)
                if data is None:
                    self._end_of_input()
                elif data:
                    self._feed(data)
                else:
                    self._handle_silence()
        except ApiError as error:
            self._fail(error)
        if not self._output:
            await self.aclose()
            raise StopAsyncIteration
        out, self._output = self._output, b""
        return out

    async def aclose(self) -> None:
        """Release the connection after a complete response; otherwise close it."""
        await self._response.aclose()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    async def _read(self, until: float) -> bytes | None:
        data = await self._response.read_available(until)
        if data and self._on_read is not None:
            self._on_read(data)
        return data

    def _feed(self, data: bytes) -> None:
        """Pass on what is whole now, and hold the rest."""
        if not self._partial_event and data.endswith(b"\n\n"):
            self._forward(data)
            return
        search_start = max(len(self._partial_event) - 2, 0)
        self._partial_event += data
        ends = ((self._partial_event.rfind(line, search_start), len(line)) for line in _EMPTY_LINES)
        end = max(at + length if at >= 0 else 0 for at, length in ends)
        if end:
            self._forward(bytes(self._partial_event[:end]))
            del self._partial_event[:end]
        if len(self._partial_event) > MAX_EVENT_BYTES:
            raise ApiError(
                500,
                f"The upstream {self._upstream_name} sent an event of more than {MAX_EVENT_BYTES} bytes",
            )

    def _forward(self, complete_events: bytes) -> None:
        complete_events = self._redact_events(complete_events)
        self._output += complete_events
        if b'"usage"' in complete_events and len(self._usage_events) < MAX_EVENT_BYTES:
            self._usage_events += complete_events
        if b"tool_use" in complete_events:
            self.tool_calls += len(_TOOL_USE.findall(complete_events))
        deltas = complete_events.count(_DELTA)
        if deltas:
            self._delta_names += deltas
            self._delta_bytes += len(complete_events)
        self._tail = (
            complete_events[-_TAIL_BYTES:]
            if len(complete_events) >= _TAIL_BYTES
            else (self._tail + complete_events)[-_TAIL_BYTES:]
        )

    def _redact_events(self, complete_events: bytes) -> bytes:
        """Return events without the secrets that errors among them repeat. Raises ApiError when that would break JSON."""
        # No other event has this outside of a text, where quotes are escaped.
        if b'"error"' not in complete_events:
            return complete_events
        text = complete_events.decode("utf-8", "surrogateescape")
        redacted_text = self._redact(text)
        if redacted_text == text:
            return complete_events
        redacted_events = redacted_text.encode("utf-8", "surrogateescape")
        if None in map(loads_object, SSEDecoder().feed(redacted_events)):
            raise ApiError(
                500, f"The upstream {self._upstream_name} sent an error that repeats a secret"
            )
        return redacted_events

    def _end_of_input(self) -> None:
        """Handle the end of the response. Raises ApiError when its last event is not a final one."""
        if not _MESSAGE_END.search(self._tail + self._partial_event):
            raise TruncatedError(
                f"The upstream {self._upstream_name} ended its stream before the end of the message"
            )
        self._finish()

    def _finish(self) -> None:
        self._output += self._redact_events(bytes(self._partial_event))
        self._is_finished = True

    def _handle_silence(self) -> None:
        if _MESSAGE_END.search(self._tail):
            # Some servers leave the connection open.
            self._finish()
        else:
            self._output = encode_event(events.ping())

    def _fail(self, error: ApiError) -> None:
        """An event that was cut is left out: clients could make nothing of it, nor of what follows it."""
        if _MESSAGE_END.search(self._tail):
            self._is_finished = True
            return
        self.error = error
        self._is_finished = True
        self._output += encode_event(error.body(self._request_id))
