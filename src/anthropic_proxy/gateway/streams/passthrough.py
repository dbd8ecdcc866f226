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
from anthropic_proxy.gateway.streams.translated import FIRST_CONTENT, SILENCE
from anthropic_proxy.translate import passthrough
from anthropic_proxy.translate.upstream_errors import Source
from anthropic_proxy.upstream.client import Call
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import loads_object
from anthropic_proxy.wire.sse import MAX_EVENT_BYTES, Decoder, encode

# An empty line, after which an event is whole; lines end in LF, CRLF or CR.
_EMPTY_LINES = (b"\n\n", b"\n\r\n", b"\r\r")

# A line break can't stand within the data of an event, so no text of the model looks like this.
_BEGUN = re.compile(rb"(?:^|[\r\n])event: ?(?:content_block|message_delta|message_stop)")
_ERROR = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")
# As above: in what a model writes the quotes are escaped.
_TOOL_USE = re.compile(rb'"type": ?"tool_use"')
# Stands twice in each event with a piece of the answer, which has about so many bytes besides.
_DELTA = b"content_block_delta"
_EVENT_BYTES = 115
_BYTES_PER_TOKEN = 4
_ENDED = re.compile(rb"(?:^|[\r\n])event: ?(?:message_stop|error)[\r\n]")
# Bytes; the last event is much shorter.
_TAIL = 4096

_NO_STREAM = ("application/json", "text/html")


class PassedStream:
    """An async iterator over bytes, one piece for each read in which an event ends. `aclose` after use."""

    def __init__(
        self,
        reply: Call,
        source: Source,
        request_id: str,
        *,
        on_read: Callable[[bytes], None] | None,
        on_end: Callable[["PassedStream"], None],
    ) -> None:
        """on_read: sees what the upstream sent. on_end: sees the stream, once, when it is over."""
        self.error: ApiError | None = None
        self._reply = reply
        self._host = source.name
        self._request_id = request_id
        self._redact = source.redact_whole
        self._on_read = on_read
        self._on_end: Callable[[PassedStream], None] | None = on_end
        self._out = b""
        self._tail = b""
        self._held = bytearray()
        # The events that tell of usage, which are few: within the text of a model the quotes are escaped.
        self._told_usage = bytearray()
        self.tool_calls = 0
        # Tokens, where the upstream does not tell them.
        self.input_estimate = 0
        self.started = False
        self._deltas = 0
        self._size = 0
        self._over = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Wait for the first content. Raises ApiError when the answer breaks off before, or begins with an error."""
        try:
            await self._start()
        except ApiError as error:
            self.error = error
            raise
        self.started = True

    @property
    def told_usage(self) -> bytes:
        """The events that tell of usage."""
        return bytes(self._told_usage)

    @property
    def output_estimate(self) -> int:
        """Tokens of the output that has come: one for each piece, or for every four bytes of them, whichever is more. It is
        rough, as nothing of the events is parsed.
        """
        pieces = self._deltas // 2
        return max(pieces, (self._size - _EVENT_BYTES * pieces) // _BYTES_PER_TOKEN)

    async def _start(self) -> None:
        kind = self._reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_STREAM:
            raise ApiError(
                500,
                f"The upstream {self._host} answered 200 with something that is no stream of events: {kind}",
            )
        begun = bytearray()
        until = math.inf
        # Also an upstream that never pauses has no longer than this.
        while not self._over and self._loop.time() < until:
            received = await self._read(until)
            if received is None:
                self._close()
            elif received:
                self._take(received)
            # Only what is new is searched; whole events are, so no name is cut.
            whole, self._out = self._out, b""
            begun += whole
            if _BEGUN.search(whole):
                break
            if _ERROR.search(whole):
                raise self._told(bytes(begun))
            if begun and until == math.inf:
                until = self._loop.time() + FIRST_CONTENT
        self._out = bytes(begun)

    def _told(self, begun: bytes) -> ApiError:
        """Return the error that the stream begins with."""
        payloads = Decoder().feed(begun)
        told = next(filter(None, map(passthrough.stream_error, payloads)), None)
        return told or ApiError(
            500, f"The upstream {self._host} broke off its answer with an error"
        )

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        silent_until = self._loop.time() + SILENCE
        try:
            while not self._out and not self._over:
                received = await self._read(silent_until)
                if received is None:
                    self._close()
                elif received:
                    self._take(received)
                else:
                    self._fill_silence()
        except ApiError as error:
            self._break_off(error)
        if not self._out:
            await self.aclose()
            raise StopAsyncIteration
        out, self._out = self._out, b""
        return out

    async def aclose(self) -> None:
        """Leave the upstream; the connection is cut when the answer is not at its end."""
        await self._reply.aclose()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    async def _read(self, until: float) -> bytes | None:
        received = await self._reply.next_read(until)
        if received and self._on_read is not None:
            self._on_read(received)
        return received

    def _take(self, received: bytes) -> None:
        """Pass on what is whole now, and hold the rest."""
        if not self._held and received.endswith(b"\n\n"):
            self._pass_on(received)
            return
        searched = max(len(self._held) - 2, 0)
        self._held += received
        ends = ((self._held.rfind(line, searched), len(line)) for line in _EMPTY_LINES)
        end = max(at + length if at >= 0 else 0 for at, length in ends)
        if end:
            self._pass_on(bytes(self._held[:end]))
            del self._held[:end]
        if len(self._held) > MAX_EVENT_BYTES:
            raise ApiError(
                500, f"The upstream {self._host} sent an event of more than {MAX_EVENT_BYTES} bytes"
            )

    def _pass_on(self, whole: bytes) -> None:
        whole = self._without_secrets(whole)
        self._out += whole
        if b'"usage"' in whole and len(self._told_usage) < MAX_EVENT_BYTES:
            self._told_usage += whole
        if b"tool_use" in whole:
            self.tool_calls += len(_TOOL_USE.findall(whole))
        deltas = whole.count(_DELTA)
        if deltas:
            self._deltas += deltas
            self._size += len(whole)
        self._tail = whole[-_TAIL:] if len(whole) >= _TAIL else (self._tail + whole)[-_TAIL:]

    def _without_secrets(self, whole: bytes) -> bytes:
        """Return events without the secrets that errors among them repeat. Raises ApiError when that would break JSON."""
        # No other event has this outside of a text, where quotes are escaped.
        if b'"error"' not in whole:
            return whole
        text = whole.decode("utf-8", "surrogateescape")
        redacted = self._redact(text)
        if redacted == text:
            return whole
        redacted_events = redacted.encode("utf-8", "surrogateescape")
        if None in map(loads_object, Decoder().feed(redacted_events)):
            raise ApiError(500, f"The upstream {self._host} sent an error that repeats a secret")
        return redacted_events

    def _close(self) -> None:
        """The upstream has ended its answer. Raises ApiError when its last event says that there is more."""
        if not _ENDED.search(self._tail + self._held):
            raise TruncatedError(
                f"The upstream {self._host} ended its stream before the end of the message"
            )
        self._finish()

    def _finish(self) -> None:
        self._out += self._without_secrets(bytes(self._held))
        self._over = True

    def _fill_silence(self) -> None:
        if _ENDED.search(self._tail):
            # Some servers leave the connection open.
            self._finish()
        else:
            self._out = encode(events.ping())

    def _break_off(self, error: ApiError) -> None:
        """An event that was cut is left out: clients could make nothing of it, nor of what follows it."""
        if _ENDED.search(self._tail):
            self._over = True
            return
        self.error = error
        self._over = True
        self._out += encode(error.body(self._request_id))
