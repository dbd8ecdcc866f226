"""Server-sent events, both ways (WHATWG HTML, section 9.2.6).

`SSEDecoder` takes bytes as the socket delivers them and returns the data of each complete event.
Events end at an empty line; lines end with LF, CRLF or CR. Comments and fields other than `data`
are skipped, since upstreams repeat the name of an event in its data. The decoder works on bytes, so
a character may be split between two reads.
"""

import re

from anthropic_proxy.wire.json_codec import JsonObject, dumps

DONE = b"[DONE]"

# Nearly all events begin with these bytes.
DATA_PREFIX = b"data: "
_EVENT_END = b"\n\n"
_BLANK_LINES = re.compile(rb"\n{3,}")
_DATA_FIELD = b"\ndata:"
_DATA_LINE = re.compile(rb"\ndata: ?([^\n]*)")
_BOM = b"\xef\xbb\xbf"

# The longest incomplete event that is searched again with each read.
_SHORT_BYTES = 4096

# No upstream sends an event of this size. Without the limit, one that does would fill the memory.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLargeError(ValueError):
    """The peer sent more than MAX_EVENT_BYTES without the end of the event."""


class SSEDecoder:
    """Incremental decoder: `feed` bytes, get the payloads of the events that ended within them.

    The time for each read depends on its own size, not on the size of the incomplete event: of a
    long one only the new bytes are searched, and it is joined once, at its end.
    """

    def __init__(self) -> None:
        # The incomplete event, with LF line ends. A long one is in `_long_buffer`.
        self._buffer = b""
        self._long_buffer = bytearray()
        # Whether the last byte was a CR, whose LF may follow.
        self._after_cr = False
        # Whether a byte order mark may follow.
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that are complete now, in order. Raises EventTooLargeError."""
        return _parse_events(self.split_events(data))

    def split_events(self, data: bytes) -> list[bytes]:
        """Return the events that are complete now: their lines, separated by LF.

        Raises EventTooLargeError.
        """
        if self._at_start:
            data = self._strip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._normalise_line_ends(data)
        if b"\n\n\n" in data:
            # Else each pair of blank lines would be an event.
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
        """Return the payload of the last event, if no empty line ended it.

        Several servers end their stream with such an event.
        """
        rest = self._buffer + self._long_buffer
        self._buffer = b""
        self._long_buffer.clear()
        return _parse_events([rest])

    def _completes_event(self, data: bytes) -> bool:
        """Return whether the incomplete long event ends in `data`."""
        return _EVENT_END in data or (self._long_buffer.endswith(b"\n") and data.startswith(b"\n"))

    def _strip_bom(self, data: bytes) -> bytes:
        """Remove the byte order mark of the input; return nothing while more of it may follow."""
        start, self._buffer = self._buffer + data, b""
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._buffer = start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _normalise_line_ends(self, data: bytes) -> bytes:
        """Replace CRLF and CR with LF. A CR at the very end is held, as an LF may follow."""
        text = b"\r" + data if self._after_cr else data
        self._after_cr = text.endswith(b"\r")
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event_too_large() -> EventTooLargeError:
    return EventTooLargeError(f"an event of more than {MAX_EVENT_BYTES} bytes")


def _parse_events(events: list[bytes]) -> list[bytes]:
    payloads = map(parse_data, events)
    return [payload for payload in payloads if payload is not None]


def parse_data(event: bytes) -> bytes | None:
    """Return the data of a complete event; None when it has none."""
    if event.startswith(DATA_PREFIX) and b"\n" not in event:
        # The fast path for most events.
        return event[len(DATA_PREFIX) :]
    lines = b"\n" + event
    first = _DATA_LINE.search(lines)
    if first is None:
        return None
    if lines.find(_DATA_FIELD, first.end()) < 0:
        return first[1]
    # One buffer: a list of millions of short lines takes many times the memory of the event.
    data = bytearray()
    for line in _DATA_LINE.finditer(lines):
        data += line[1]
        data += b"\n"
    return bytes(data[:-1])


def encode_event(event: JsonObject) -> bytes:
    """Encode one Anthropic stream event.

    The field `event` repeats the name, as the SDKs drop events without it.
    """
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))


def encode_batch(batch: list[JsonObject] | bytes) -> bytes:
    """Encode the events of one write; the bytes of events are passed through."""
    if isinstance(batch, bytes):
        return batch
    return b"".join(map(encode_event, batch))
