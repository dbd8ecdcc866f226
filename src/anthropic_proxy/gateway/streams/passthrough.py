"""Forward the events of an upstream with the Messages API, byte for byte.

The bytes of an incomplete event are held until the event is complete. So the proxy can insert a
ping or an error between two events. Events are not parsed: the code searches only for the ends of
events, and for the events that end the message. What follows them is not read.

Some gateways send other forms of a response, which are converted: a Message instead of a stream,
events without names or empty lines, and a stream without its last event.
"""

import math
import re
from collections.abc import Callable

from anthropic_proxy.errors import (
    ApiError,
    PassthroughError,
    TruncatedError,
    UnusableResponseError,
)
from anthropic_proxy.gateway.streams.base import (
    FIRST_CONTENT_SECONDS,
    USAGE_SECONDS,
    EventStream,
    ReadLogger,
)
from anthropic_proxy.translate import passthrough
from anthropic_proxy.translate.event_repair import EventRepairer
from anthropic_proxy.translate.passthrough_conversion import (
    ToolInputChecker,
    to_events,
    to_message,
)
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import dumps, loads_object
from anthropic_proxy.wire.sse import MAX_EVENT_BYTES, EventTooLargeError, SSEDecoder, encode_event

# An empty line ends an event. Lines end with LF, CRLF or CR.
_EMPTY_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")

# Text of the model cannot match these, because the data of an event contains no line break.
_CONTENT_START = re.compile(rb"(?:^|[\r\n])event: ?(?:content_block|message_delta|message_stop)")
_MESSAGE_DELTA = re.compile(rb"(?:^|(?<=[\r\n]))event: ?message_(?:delta|stop)")
_MESSAGE_END = re.compile(rb"(?:^|[\r\n])event: ?message_stop[\r\n]")
_ERROR_NAME = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")
_DONE = re.compile(rb"(?:^|(?<=[\r\n]))data: ?\[DONE\]")
# Parts of each event that reports an error. Quotes in the text of the model are escaped.
_ERROR_MARKS = (b'"error"', b"event: error", b"event:error")
_UNNAMED_EVENT = b"\n\ndata:"
# Text of the model cannot match, because its quotes are escaped.
_TOOL_USE = re.compile(rb'"type": ?"tool_use"')
# Occurs twice in each event of this type.
_DELTA = b"content_block_delta"
# The approximate size of such an event without its text.
_EVENT_BYTES = 115
_BYTES_PER_TOKEN = 4


class PassthroughStream(EventStream[bytes]):
    """A stream whose batches are the bytes of complete events."""

    def __init__(
        self,
        response: UpstreamResponse,
        identity: UpstreamIdentity,
        request_id: str,
        *,
        on_read: ReadLogger | None,
        on_end: Callable[["PassthroughStream"], None],
    ) -> None:
        """Forward `response`.

        Args:
            on_read: called for each read.
            on_end: called with this stream once, when it is closed.
        """
        super().__init__(response, request_id, b"", on_read=on_read, on_end=on_end)
        # Number of tool calls.
        self.tool_calls = 0
        # Input tokens, for an upstream that does not report them. The caller sets it.
        self.input_estimate = 0
        self._identity = identity
        self._redact = identity.redact
        # True if the client receives no events.
        self._is_collected = False
        # A complete Message, which the upstream sent instead of a stream.
        self._message: bytes | None = None
        # None if the events are regular.
        self._repairer: EventRepairer | None = EventRepairer(identity)
        # True if the upstream has sent the stop reason: only the end of the message may follow.
        self._has_stop_reason = False
        self._tool_inputs = ToolInputChecker()
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

    async def read_message(self) -> bytes:
        """Return the complete Message, for clients that do not request a stream.

        Raises ApiError. Call this instead of `start`.
        """
        self._is_collected = True
        self._response.limit_size()
        await self.start()
        collected = bytearray()
        try:
            if self._message is not None:
                return self._message
            async for batch in self:
                collected += batch
        finally:
            await self.aclose()
        if self.error is not None:
            raise self.error
        stream_events = map(loads_object, SSEDecoder().feed(bytes(collected)))
        return dumps(to_message(event for event in stream_events if event is not None))

    async def _wait_for_content(self) -> None:
        """Read until the first content, at most FIRST_CONTENT_SECONDS after the first event.

        Raises ApiError when the response begins with an error.
        """
        opening = bytearray()
        until = math.inf
        # The clock is checked here too, because `until` does not limit reads that return at once.
        while not self._is_finished and self._loop.time() < until:
            await self._step(until)
            # Only the new events are searched. They are complete, so they contain complete names.
            complete_events, self._output = self._output, b""
            opening += complete_events
            if _CONTENT_START.search(complete_events):
                break
            if opening and until == math.inf:
                until = self._loop.time() + FIRST_CONTENT_SECONDS
        self._output = bytes(opening)

    async def _convert_document(self, body: bytes) -> None:
        message = passthrough.parse_message(body)
        if message is None:
            raise self._document_error(body)
        self._message = body
        if not self._is_collected:
            self._forward(b"".join(map(encode_event, to_events(message))))

    def _document_error(self, body: bytes) -> ApiError:
        """Return the error for a body that is neither a Message nor a stream of events."""
        error = passthrough.parse_success_error(body, self._identity)
        if error is not None:
            return error
        content_type = self._response.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower() or "no content type"
        status = self._response.status
        return self._create_error(
            f"returned status {status} with a body that is not a message ({media_type})"
        )

    def _create_error(self, text: str) -> ApiError:
        return UnusableResponseError(f"The upstream {self._identity.name} {text}")

    def _is_message_complete(self) -> bool:
        return self._has_stop_reason or self._ends_with_partial_event()

    def _feed(self, data: bytes) -> None:
        if self._repairer is not None:
            data = self._repair(self._repairer, data)
        self._feed_regular(data)
        if self._has_stop_reason and not self._is_finished:
            # Heartbeats do not extend the wait.
            now = self._loop.time()
            if now >= self._complete_at:
                self._end_of_input()
            self._complete_at = min(self._complete_at, now + USAGE_SECONDS)

    def _repair(self, repairer: EventRepairer, data: bytes) -> bytes:
        """Return the bytes to forward."""
        try:
            data = repairer.feed(data)
        except EventTooLargeError as error:
            raise self._create_error(f"sent {error}") from error
        if repairer.is_regular:
            self._repairer = None
        return data

    def _feed_regular(self, data: bytes) -> None:
        """Forward the complete events, and hold the bytes of an incomplete one."""
        if not self._partial_event and data.endswith(b"\n\n"):
            self._forward(data)
            return
        search_start = max(len(self._partial_event) - 2, 0)
        self._partial_event += data
        end = self._find_events_end(search_start)
        if end:
            complete_events = bytes(self._partial_event[:end])
            del self._partial_event[:end]
            self._forward(complete_events)
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
        """Forward events up to the one that ends the message. Raises ApiError."""
        # Events without a name may be the body of an HTTP error, which is not in the API's format.
        if complete_events.startswith(b"data:") or _UNNAMED_EVENT in complete_events:
            self._forward_to_error(complete_events)
            return
        for mark in _ERROR_MARKS:
            if mark in complete_events:
                self._forward_to_error(complete_events)
                return
        self._forward_to_end(complete_events)

    def _forward_to_error(self, complete_events: bytes) -> None:
        """Forward events, and end the response at the first one that reports an error.

        Raises ApiError.
        """
        start = 0
        for match in _EVENT_END.finditer(complete_events):
            raw_event = complete_events[start : match.end()]
            error = passthrough.parse_stream_error(raw_event, self._identity)
            if error is not None:
                self._forward_to_end(complete_events[:start])
                if not self._is_finished:
                    self._is_input_complete = True
                    self._end_with_error(error, raw_event)
                return
            start = match.end()
        self._forward_to_end(complete_events)

    def _end_with_error(self, error: ApiError, raw_event: bytes) -> None:
        """End the response. Raises the error if the client receives no content before it."""
        has_content = self.started or _CONTENT_START.search(self._output) is not None
        if self._is_collected or not has_content:
            raise error
        if isinstance(error, PassthroughError) and _ERROR_NAME.search(raw_event):
            # The event has the form of the API.
            self.error = error
            self._output += raw_event
            self._is_finished = True
        else:
            self._finish_with_error(error)

    def _forward_to_end(self, complete_events: bytes) -> None:
        """Forward events without errors up to the one that ends the message."""
        done = _DONE.search(complete_events) if b"[DONE]" in complete_events else None
        if done is not None:
            complete_events = complete_events[: done.start()]
            self._is_input_complete = True
        message_end = _find_message_end(complete_events)
        if message_end:
            complete_events = complete_events[:message_end]
            self._is_finished = self._is_input_complete = True
        self._forward_events(self._redact_events(complete_events))
        if done is not None and not self._is_finished:
            self._finish_message()

    def _forward_events(self, complete_events: bytes) -> None:
        """Forward events. An incomplete tool call ends the response. Raises ApiError."""
        input_error = self._find_input_error(complete_events)
        if input_error is not None:
            message_delta = _MESSAGE_DELTA.search(complete_events)
            end = message_delta.start() if message_delta else 0
            complete_events = complete_events[:end]
        self._output += complete_events
        self._record_events(complete_events)
        if input_error is not None:
            self._end_with_error(input_error, b"")

    def _find_input_error(self, complete_events: bytes) -> ApiError | None:
        """Return the error if the message ends with these events after an incomplete tool call."""
        stop_reason = None
        if not self._has_stop_reason and b"message_delta" in complete_events:
            _, stop_reason = passthrough.parse_stream_usage(complete_events)
            self._has_stop_reason = stop_reason is not None
        if not self.tool_calls and b"tool_use" not in complete_events:
            return None
        self._tool_inputs.add(complete_events)
        is_end = stop_reason is not None or (self._is_finished and not self._has_stop_reason)
        return self._tool_inputs.find_error(stop_reason) if is_end else None

    def _record_events(self, complete_events: bytes) -> None:
        """Collect the data that is recorded of events."""
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
        if self._repairer is not None:
            self._feed_regular(self._repairer.close())
        if not self._is_finished and self._ends_with_partial_event():
            # No empty line ended the last event.
            self._forward(self._complete_partial_event())
        self._partial_event.clear()
        if not self._is_finished:
            self._finish_message()

    def _complete_partial_event(self) -> bytes:
        """Return the bytes of the incomplete event with an empty line after them."""
        return bytes(self._partial_event).strip(b"\r\n") + b"\n\n"

    def _ends_with_partial_event(self) -> bool:
        """Return whether the incomplete event lacks only an empty line, and ends the message."""
        raw_event = self._complete_partial_event()
        if passthrough.parse_stream_error(raw_event, self._identity) is not None:
            return True
        if _MESSAGE_END.search(raw_event):
            return None not in map(loads_object, SSEDecoder().feed(raw_event) or [b""])
        return passthrough.parse_stream_usage(raw_event)[1] is not None

    def _finish_message(self) -> None:
        """End the message. Some servers omit its last event (DeepSeek-Reasonix#8756).

        It is incomplete if the upstream has sent no stop reason. Raises ApiError.
        """
        if self._has_stop_reason:
            self._output += encode_event(events.message_stop())
            self._is_finished = True
            return
        text = f"The upstream {self._identity.name} ended its stream before the end of the message"
        self._end_with_error(TruncatedError(text), b"")

    def _handle_silence(self) -> None:
        if self._is_message_complete():
            self._end_of_input()
        else:
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
    # Most events do not contain the name, and the pattern is slow.
    if b"message_stop" not in complete_events:
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
