"""Decode and encode server-sent events (WHATWG HTML, section 9.2.6).

`SSEDecoder` receives bytes from the socket and returns the data of each complete event. Events end
at an empty line; lines end with LF, CRLF or CR. Comments and fields other than `data` are skipped,
because upstreams repeat the event name in the data. The decoder processes bytes, so characters may
be split between reads.
"""

import re

from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object

DONE = b"[DONE]"

# Nearly all events start with these bytes.
DATA_PREFIX = b"data: "
_EVENT_END = b"\n\n"
_BLANK_LINES = re.compile(rb"\n{3,}")
_DATA_FIELD = b"\ndata:"
_DATA_LINE = re.compile(rb"\ndata: ?([^\n]*)")
_DATA_LINE_END = re.compile(rb"^(data:[^\n]*)\n", re.MULTILINE)
# The fields that begin the next event after a line of data. The name may also follow the data.
_NEXT_FIELDS = (b"event:", b"data:", b"id:", b"retry:", b":")
_EVENT_NAME = re.compile(rb"^event:", re.MULTILINE)
_ERROR_LINE = re.compile(rb"^event: ?error$", re.MULTILINE)
_FIELD = re.compile(rb"(?:data|event|id|retry)?:|$")
_BOM = b"\xef\xbb\xbf"

# Incomplete events up to this size are joined with each read and searched again from their start.
# For longer ones, only the new bytes are searched.
_SHORT_BYTES = 4096

# The first event of a stream is shorter if its form has to be detected.
_MAX_DETECTION_BYTES = 4096

# No known upstream sends larger events. The limit protects the memory of the proxy.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLargeError(ValueError):
    """The upstream sent more than MAX_EVENT_BYTES without the end of the event."""


class SSEDecoder:
    """Incremental decoder: `feed` receives bytes and returns the data of the completed events.

    The time for a read depends on its size, not on the size of the incomplete event: if the event
    is long, only the new bytes are searched, and the event is joined once at its end.
    """

    def __init__(self) -> None:
        # The incomplete event, with LF line endings. A long event is in `_long_buffer`.
        self._buffer = b""
        self._long_buffer = bytearray()
        # True if the last byte was a CR, so an LF may follow.
        self._after_cr = False
        # True if a byte order mark may still come.
        self._at_start = True
        # The beginning of the stream, until it shows whether empty lines separate the events.
        self._beginning: bytes | None = b""
        # If no empty lines separate the events: the incomplete line.
        self._line: bytearray | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are now complete, in order.

        Raises EventTooLargeError.
        """
        return _parse_events(self.split_events(data))

    def split_events(self, data: bytes) -> list[bytes]:
        """Return the lines, separated by LF, of each event that is now complete.

        Raises EventTooLargeError.
        """
        if self._at_start:
            data = self._strip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if self._beginning is not None or self._line is not None:
            data = self._separate_lines(data)
        if b"\n\n\n" in data:
            # Extra blank lines would produce empty events.
            data = _BLANK_LINES.sub(_EVENT_END, data)
        if self._long_buffer:
            if not self._completes_event(data):
                self._long_buffer += data
                if len(self._long_buffer) > MAX_EVENT_BYTES:
                    raise _event_too_large()
                return []
            data = b"".join((self._long_buffer, data))
            self._long_buffer.clear()
        *events, rest = (self._buffer + data).split(_EVENT_END)
        if len(rest) <= _SHORT_BYTES:
            self._buffer = rest
        else:
            self._buffer = b""
            self._long_buffer += rest
        if len(rest) > MAX_EVENT_BYTES:
            raise _event_too_large()
        return events

    def close(self) -> list[bytes]:
        """Return the data of the last event if no empty line ended it."""
        return _parse_events(self.split_rest())

    def split_rest(self) -> list[bytes]:
        """Return the lines, separated by LF, of the last event if no empty line ended it.

        Several servers end their streams with such an event.
        """
        rest = self._buffer + self._long_buffer + (self._line or b"")
        self._line = None
        self._buffer = b""
        self._long_buffer.clear()
        return [rest] if rest else []

    def _separate_lines(self, data: bytes) -> bytes:
        """Insert empty lines between the events if the stream has none."""
        if self._beginning is not None:
            data = self._detect_lines(self._beginning, data)
        return data if self._line is None else self._end_data_lines(self._line, data)

    def _detect_lines(self, beginning: bytes, data: bytes) -> bytes:
        """Detect a stream without empty lines. Return the bytes to decode."""
        beginning += data
        is_event = is_each_line_an_event(beginning)
        is_undecided = is_event is None and len(beginning) <= _MAX_DETECTION_BYTES
        self._beginning = beginning if is_undecided else None
        if not is_event:
            return data
        # What has been decoded so far contains no complete data.
        self._buffer = b""
        self._line = bytearray()
        return beginning

    def _end_data_lines(self, line: bytearray, data: bytes) -> bytes:
        """Return the complete lines, with an empty line after each line of data."""
        head, line_end, tail = data.rpartition(b"\n")
        if not line_end:
            line += data
            if len(line) > MAX_EVENT_BYTES:
                raise _event_too_large()
            return b""
        lines = bytes(line) + head + line_end
        line[:] = tail
        return _DATA_LINE_END.sub(rb"\1\n\n", lines)

    def _completes_event(self, data: bytes) -> bool:
        """Return whether the incomplete long event ends in `data`."""
        return _EVENT_END in data or (self._long_buffer.endswith(b"\n") and data.startswith(b"\n"))

    def _strip_bom(self, data: bytes) -> bytes:
        """Remove the byte order mark at the start, and buffer a possible beginning of it."""
        start, self._buffer = self._buffer + data, b""
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._buffer = start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Replace CRLF and CR with LF. A CR at the end is buffered, because an LF may follow."""
        text = b"\r" + data if self._after_cr else data
        self._after_cr = text.endswith(b"\r")
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def is_each_line_an_event(beginning: bytes) -> bool | None:
    """Return whether no empty lines separate the events of a stream, as some gateways send it.

    Returns None if its first bytes, with LF line endings, do not show it.
    """
    first = _DATA_LINE.search(b"\n" + beginning)
    if first is None:
        return None
    # The match begins with a line feed that is not in `beginning`.
    name, following = beginning[: first.start()], beginning[first.end() :]
    fields = _NEXT_FIELDS if _EVENT_NAME.search(name) else _NEXT_FIELDS[1:]
    if following.startswith(fields):
        return loads_object(first[1]) is not None
    if any(field.startswith(following) for field in fields):
        return None
    return False


def _event_too_large() -> EventTooLargeError:
    return EventTooLargeError(f"an event of more than {MAX_EVENT_BYTES} bytes")


def _parse_events(events: list[bytes]) -> list[bytes]:
    payloads = map(parse_data, events)
    return [payload for payload in payloads if payload is not None]


def parse_data(event: bytes) -> bytes | None:
    """Return the data of a complete event, or None if it has no data."""
    if event.startswith(DATA_PREFIX) and b"\n" not in event:
        # A fast path for most events.
        return event[len(DATA_PREFIX) :]
    lines = b"\n" + event
    first = _DATA_LINE.search(lines)
    if first is None:
        return None
    if lines.find(_DATA_FIELD, first.end()) < 0:
        return first[1]
    # A single buffer: a list of millions of short lines would use much more memory than the event.
    data = bytearray()
    for line in _DATA_LINE.finditer(lines):
        data += line[1]
        data += b"\n"
    return bytes(data[:-1])


def is_error_event(event: bytes) -> bool:
    """Return whether the name of an event is `error`."""
    return b"event:" in event and _ERROR_LINE.search(event) is not None


def get_stray_text(event: bytes) -> bytes:
    """Return the lines of a complete event that are neither fields nor comments."""
    lines = [line for line in event.split(b"\n") if not _FIELD.match(line)]
    return b"\n".join(lines).strip()


def encode_event(event: JsonObject) -> bytes:
    """Encode one Anthropic stream event.

    The field `event` contains the name, because the SDKs ignore events without it.
    """
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))


def encode_batch(batch: list[JsonObject] | bytes) -> bytes:
    """Encode the events of one write; encoded events are returned unchanged."""
    if isinstance(batch, bytes):
        return batch
    return b"".join(map(encode_event, batch))
