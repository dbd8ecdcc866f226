"""Forward the events of an upstream with the Messages API, byte for byte.

The bytes of an incomplete event are held until the event is complete. So the proxy can insert a
ping or an error between two events. Events are not parsed: the code searches only for the ends of
events, and for the name of the event that ends the message. What follows this event is not read.
"""

import math
import re
from collections.abc import Callable

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.gateway.streams.base import FIRST_CONTENT_SECONDS, EventStream
from anthropic_proxy.translate import passthrough
from anthropic_proxy.translate.upstream_errors import parse_error_event
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import loads_object
from anthropic_proxy.wire.payloads import is_json, strip_leading
from anthropic_proxy.wire.sse import (
    MAX_EVENT_BYTES,
    SSEDecoder,
    encode_event,
    is_error_event,
    parse_data,
)

# An empty line ends an event. Lines end with LF, CRLF or CR.
_EMPTY_LINES = (b"\n\n", b"\n\r\n", b"\r\r")

# Text of the model cannot match, because the data of an event contains no line break.
_CONTENT_START = re.compile(rb"(?:^|[\r\n])event: ?(?:content_block|message_delta|message_stop)")
_ERROR = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")
# Text of the model cannot match, because its quotes are escaped.
_TOOL_USE = re.compile(rb'"type": ?"tool_use"')
# Occurs twice in each event of this type.
_DELTA = b"content_block_delta"
# The approximate size of such an event without its text.
_EVENT_BYTES = 115
_BYTES_PER_TOKEN = 4
_MESSAGE_END = re.compile(rb"(?:^|[\r\n])event: ?(?:message_stop|error)[\r\n]")
# One of them is part of each match. Most events contain none, and the pattern is slow.
_MESSAGE_END_MARKS = (b"message_stop", b"event: error", b"event:error")


class PassthroughStream(EventStream[bytes]):
    """A stream whose batches are the bytes of complete events."""

    def __init__(
        self,
        response: UpstreamResponse,
        identity: UpstreamIdentity,
        request_id: str,
        *,
        on_read: Callable[[bytes], None] | None,
        on_end: Callable[["PassthroughStream"], None],
    ) -> None:
        """Forward `response`.

        Args:
            on_read: called with the bytes of each read.
            on_end: called with this stream once, when it is closed.
        """
        super().__init__(response, request_id, b"", on_read=on_read, on_end=on_end)
        # Number of tool calls.
        self.tool_calls = 0
        # Input tokens, for an upstream that does not report them. The caller sets it.
        self.input_estimate = 0
        self._identity = identity
        self._upstream_name = identity.name
        self._redact = identity.redact
        # True if the first byte of the body has arrived, which shows its format.
        self._has_format = False
        # The beginning of a body that is not a stream of events.
        self._invalid_beginning: bytes | None = None
        self._partial_event = bytearray()
        # The few events that contain usage.
        self._usage_events = bytearray()
        self._delta_names = 0
        self._delta_bytes = 0

    @property
    def usage_events(self) -> bytes:
        """The bytes of the events that contain usage."""
        return bytes(self._usage_events)

    @property
    def output_estimate(self) -> int:
        """Estimate of the output tokens so far.

        One token per delta, or one token per four bytes of deltas, whichever is more. The estimate
        is rough, because events are not parsed.
        """
        deltas = self._delta_names // 2
        return max(deltas, (self._delta_bytes - _EVENT_BYTES * deltas) // _BYTES_PER_TOKEN)

    def _take_output(self) -> bytes:
        batch, self._output = self._output, b""
        return batch

    async def _wait_for_content(self) -> None:
        """Read until the first content, at most FIRST_CONTENT_SECONDS after the first event.

        Raises ApiError when the response begins with an error.
        """
        opening = bytearray()
        until = math.inf
        # The clock is checked here too, because `until` does not limit reads that return at once.
        while not self._is_finished and self._loop.time() < until:
            await self._step(until)
            if self._invalid_beginning is not None:
                raise await self._read_error(self._invalid_beginning)
            # Only the new events are searched. They are complete, so they contain complete names.
            complete_events, self._output = self._output, b""
            opening += complete_events
            if _CONTENT_START.search(complete_events):
                break
            if _ERROR.search(complete_events):
                raise self._opening_error(bytes(opening))
            if opening and until == math.inf:
                until = self._loop.time() + FIRST_CONTENT_SECONDS
        self._output = bytes(opening)

    def _is_stream(self, data: bytes) -> bool:
        """Return whether the first bytes of the body begin a stream of events.

        The content type is not sufficient: some servers send a wrong one with a correct stream.
        """
        beginning = strip_leading(data)
        self._has_format = bool(beginning)
        return not (is_json(beginning) or beginning.startswith(b"<"))

    async def _read_error(self, beginning: bytes) -> ApiError:
        """Return the error for a body that is not a stream of events."""
        body = beginning + await self._response.read()
        error = passthrough.parse_success_error(body, self._identity)
        if error is not None:
            return error
        content_type = self._response.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower() or "no content type"
        return self._create_error(f"returned status 200 with {media_type} and no stream of events")

    def _opening_error(self, opening: bytes) -> ApiError:
        """Return the error in the first events of the stream."""
        for raw_event in SSEDecoder().split_events(opening):
            payload = parse_data(raw_event) or b""
            error = None
            if is_error_event(raw_event) or passthrough.parse_event_error(payload) is not None:
                error = passthrough.parse_success_error(payload, self._identity)
            if error is not None:
                return error
            if is_error_event(raw_event):
                return parse_error_event(payload, self._identity)
        return self._create_error("ended its response with an error")

    def _create_error(self, text: str) -> ApiError:
        return ApiError(500, f"The upstream {self._upstream_name} {text}")

    def _feed(self, data: bytes) -> None:
        """Forward the complete events, and hold the bytes of an incomplete one."""
        if not self._has_format and not self._is_stream(data):
            self._invalid_beginning = data
            return
        if not self._partial_event and data.endswith(b"\n\n"):
            self._forward(data)
            return
        search_start = max(len(self._partial_event) - 2, 0)
        self._partial_event += data
        end = self._find_events_end(search_start)
        if end:
            self._forward(bytes(self._partial_event[:end]))
            del self._partial_event[:end]
        if len(self._partial_event) > MAX_EVENT_BYTES:
            raise self._create_error(f"sent an event of more than {MAX_EVENT_BYTES} bytes")

    def _find_events_end(self, search_start: int) -> int:
        """Return the end of the last complete event in the held bytes; 0 if none is complete."""
        end = 0
        for empty_line in _EMPTY_LINES:
            at = self._partial_event.rfind(empty_line, search_start)
            if at >= 0:
                end = max(end, at + len(empty_line))
        return end

    def _forward(self, complete_events: bytes) -> None:
        message_end = _find_message_end(complete_events)
        if message_end:
            complete_events = complete_events[:message_end]
            self._is_finished = self._is_input_complete = True
        complete_events = self._redact_events(complete_events)
        self._output += complete_events
        # Text of the model cannot match, because its quotes are escaped.
        if b'"usage"' in complete_events and len(self._usage_events) < MAX_EVENT_BYTES:
            self._usage_events += complete_events
        if b"tool_use" in complete_events:
            self.tool_calls += len(_TOOL_USE.findall(complete_events))
        delta_names = complete_events.count(_DELTA)
        if delta_names:
            self._delta_names += delta_names
            self._delta_bytes += len(complete_events)

    def _redact_events(self, complete_events: bytes) -> bytes:
        """Redact the secrets in the error events among `complete_events`.

        Raises ApiError if the redacted events are not valid JSON.
        """
        # Only error events contain this. Quotes in the text of the model are escaped.
        if b'"error"' not in complete_events:
            return complete_events
        text = complete_events.decode("utf-8", "surrogateescape")
        redacted_text = self._redact(text)
        if redacted_text == text:
            return complete_events
        redacted_events = redacted_text.encode("utf-8", "surrogateescape")
        if None in map(loads_object, SSEDecoder().feed(redacted_events)):
            raise self._create_error("sent an error that contains a secret")
        return redacted_events

    def _end_of_input(self) -> None:
        """Finish the stream. Raises ApiError if the message is incomplete."""
        if not _MESSAGE_END.search(self._partial_event):
            raise TruncatedError(
                f"The upstream {self._upstream_name} ended its stream before the end of the message"
            )
        self._output += self._redact_events(bytes(self._partial_event))
        self._is_finished = True

    def _handle_silence(self) -> None:
        self._output = encode_event(events.ping())

    def _finish_with_error(self, error: ApiError) -> None:
        """Finish the stream with an `error` event.

        The bytes of an incomplete event are dropped, because clients cannot parse them.
        """
        self._is_finished = True
        self.error = error
        self._output += encode_event(error.body(self._request_id))


def _find_message_end(complete_events: bytes) -> int:
    """Return the end of the event that ends the message; 0 if there is none."""
    for mark in _MESSAGE_END_MARKS:
        if mark in complete_events:
            break
    else:
        return 0
    match = _MESSAGE_END.search(complete_events)
    if match is None:
        return 0
    ends = []
    for empty_line in _EMPTY_LINES:
        # The match contains the first byte of the line end after the name.
        at = complete_events.find(empty_line, match.end() - 1)
        if at >= 0:
            ends.append(at + len(empty_line))
    return min(ends, default=len(complete_events))
