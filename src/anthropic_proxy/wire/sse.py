"""Server-sent events, both ways (WHATWG HTML, section 9.2.6).

`Decoder` takes bytes as they come from the socket, cut anywhere, and gives the payload of each finished event. Events
end at an empty line; lines end with LF, CRLF or CR; comments and fields other than `data` are skipped, since no upstream
says anything in an event's name that it does not say in its data as well. It works on bytes, so a character that is
split between two reads never matters.
"""

from anthropic_proxy.wire.codec import JsonObject, dumps

DONE = b"[DONE]"

# How the data begins of nearly all events.
DATA = b"data: "
_END = b"\n\n"
_BOM = b"\xef\xbb\xbf"

# No upstream sends an event of this size; one that does would otherwise grow our memory without a bound.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLargeError(ValueError):
    """The peer sent more than MAX_EVENT_BYTES without an end of it."""


class Decoder:
    """Incremental decoder: `feed` bytes, get the payloads (bytes) of the events that ended within them."""

    def __init__(self) -> None:
        # What has come of the event under way, without the line break that its last byte may be half of.
        self._rest = bytearray()
        self._half_break = b""
        self._at_start = True

    def feed(self, received: bytes) -> list[bytes]:
        """Payloads that are complete now, in order. Raises EventTooLargeError."""
        return _payloads(self.events(received))

    def events(self, received: bytes) -> list[bytes]:
        """As `feed`, the events themselves: their lines, LF between them. Raises EventTooLargeError."""
        text = self._with_line_breaks(self._half_break + received)
        if self._at_start:
            text = self._without_mark(text)
        if self._rest:
            # Only what is new is searched, and copied: an event may come in many reads.
            searched = len(self._rest) - 1
            self._rest += text
            if self._rest.find(_END, searched) < 0:
                self._check_size()
                return []
            text = bytes(self._rest)
        *whole, rest = text.split(_END)
        self._rest = bytearray(rest)
        self._check_size()
        return whole

    def close(self) -> list[bytes]:
        """What the end of input leaves: several servers end with a `data:` line and no empty line after it."""
        rest, self._rest, self._half_break = bytes(self._rest), bytearray(), b""
        return _payloads([rest])

    def _with_line_breaks(self, text: bytes) -> bytes:
        """CRLF and CR to LF; a CR at the very end waits, as its LF may still be under way."""
        self._half_break = b"\r" if text.endswith(b"\r") else b""
        if b"\r" not in text:
            return text
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_mark(self, text: bytes) -> bytes:
        """The text without the byte order mark that it may begin with; as long as it may become one it waits."""
        text = bytes(self._rest) + text
        self._rest = bytearray()
        if len(text) < len(_BOM) and _BOM.startswith(text):
            self._rest = bytearray(text)
            return b""
        self._at_start = False
        return text.removeprefix(_BOM)

    def _check_size(self) -> None:
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event of more than {MAX_EVENT_BYTES} bytes")


def _payloads(events: list[bytes]) -> list[bytes]:
    payloads = map(payload_of, events)
    return [payload for payload in payloads if payload is not None]


def payload_of(event: bytes) -> bytes | None:
    """The data of a whole event; None when it has none."""
    if event.startswith(DATA) and b"\n" not in event:
        # All that most events have.
        return event[len(DATA) :]
    data = [line[6:] if line[5:6] == b" " else line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(data) if data else None


def encode(event: JsonObject) -> bytes:
    """One Anthropic stream event as bytes. The name is repeated in `event:`, as the SDKs drop events without one."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))
