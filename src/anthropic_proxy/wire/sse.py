"""Server-sent events, both ways (WHATWG HTML, section 9.2.6).

`Decoder` takes bytes as they come from the socket, cut anywhere, and gives the payload of each finished event. Events
end at an empty line; lines end with LF, CRLF or CR; comments and fields other than `data` are skipped, since no upstream
says anything in an event's name that it does not say in its data as well. It works on bytes, so a character that is
split between two reads never matters.
"""

import re

from anthropic_proxy.wire.json_codec import JsonObject, dumps

DONE = b"[DONE]"

# How the data begins of nearly all events.
DATA = b"data: "
_END = b"\n\n"
_BLANK_LINES = re.compile(rb"\n{3,}")
_DATA_FIELD = b"\ndata:"
_DATA_LINE = re.compile(rb"\ndata: ?([^\n]*)")
_BOM = b"\xef\xbb\xbf"

# The longest event under way that is searched again with each read.
_SHORT_BYTES = 4096

# No upstream sends an event of this size; one that does would otherwise grow our memory without a bound.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLargeError(ValueError):
    """The peer sent more than MAX_EVENT_BYTES without an end of it."""


class Decoder:
    """Incremental decoder: `feed` bytes, get the payloads (bytes) of the events that ended within them.

    The time for each read depends on its own size, not on the size of the event under way: of a long one only the new
    bytes are searched, and it is put together once, at its end.
    """

    def __init__(self) -> None:
        # The event under way, with LF line ends: a short one in `_rest`, a long one in `_long`.
        self._rest = b""
        self._long = bytearray()
        # Whether the last byte was a CR, whose LF may follow.
        self._after_cr = False
        self._at_start = True

    def feed(self, received: bytes) -> list[bytes]:
        """Return the payloads that are complete now, in order. Raises EventTooLargeError."""
        return _payloads(self.events(received))

    def events(self, received: bytes) -> list[bytes]:
        """Return the events that are complete now: their lines, separated by LF. Raises EventTooLargeError."""
        if self._at_start:
            received = self._without_bom(received)
        if self._after_cr or b"\r" in received:
            received = self._normalise(received)
        if b"\n\n\n" in received:
            # Else each pair of blank lines would be an event.
            received = _BLANK_LINES.sub(_END, received)
        if self._long:
            if not self._ends_within(received):
                self._long += received
                if len(self._long) > MAX_EVENT_BYTES:
                    raise _too_large()
                return []
            received = b"".join((self._long, received))
            self._long.clear()
        *whole, rest = (self._rest + received).split(_END)
        if len(rest) <= _SHORT_BYTES:
            self._rest = rest
        else:
            self._rest = b""
            self._long += rest
        if len(rest) > MAX_EVENT_BYTES:
            raise _too_large()
        return whole

    def close(self) -> list[bytes]:
        """Return what the end of input leaves: several servers end with a `data:` line and no empty line after it."""
        rest = self._rest + self._long
        self._rest = b""
        self._long.clear()
        return _payloads([rest])

    def _ends_within(self, received: bytes) -> bool:
        """Whether the event under way, a long one, ends in `received`."""
        return _END in received or (self._long.endswith(b"\n") and received.startswith(b"\n"))

    def _without_bom(self, received: bytes) -> bytes:
        """Remove the byte order mark of the input; return nothing while it may still be under way."""
        begun, self._rest = self._rest + received, b""
        if len(begun) < len(_BOM) and _BOM.startswith(begun):
            self._rest = begun
            return b""
        self._at_start = False
        return begun.removeprefix(_BOM)

    def _normalise(self, received: bytes) -> bytes:
        """Turn CRLF and CR into LF. A CR at the very end is held back until it is known whether an LF follows."""
        text = b"\r" + received if self._after_cr else received
        self._after_cr = text.endswith(b"\r")
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _too_large() -> EventTooLargeError:
    return EventTooLargeError(f"an event of more than {MAX_EVENT_BYTES} bytes")


def _payloads(events: list[bytes]) -> list[bytes]:
    payloads = map(payload_of, events)
    return [payload for payload in payloads if payload is not None]


def payload_of(event: bytes) -> bytes | None:
    """Return the data of a whole event; None when it has none."""
    if event.startswith(DATA) and b"\n" not in event:
        # All that most events have.
        return event[len(DATA) :]
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


def encode(event: JsonObject) -> bytes:
    """One Anthropic stream event as bytes. The name is repeated in `event:`, as the SDKs drop events without one."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))
