"""Server-sent events, both ways (WHATWG HTML, section 9.2.6).

`Decoder` takes bytes as they come from the socket, cut anywhere, and gives the payload of each finished event. Events
end at an empty line; lines end with LF, CRLF or CR; comments and fields other than `data` are skipped, since no upstream
says anything in an event's name that it does not say in its data as well. It works on bytes, so a character that is
split between two reads never matters.
"""

from anthropic_proxy.wire.codec import JsonObject, dumps

DONE = b"[DONE]"

_DATA = b"data: "
_BOM = b"\xef\xbb\xbf"

# No upstream sends an event of this size; one that does would otherwise grow our memory without a bound.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLargeError(ValueError):
    """The peer sent more than MAX_EVENT_BYTES without an end of it."""


class Decoder:
    """Incremental decoder: `feed` bytes, get the payloads (bytes) of the events that ended within them."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._at_start = True

    def feed(self, received: bytes) -> list[bytes]:
        """Payloads that are complete now, in order. Raises EventTooLargeError."""
        text = self._rest + received
        if self._at_start:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return []
            text = text.removeprefix(_BOM)
            self._at_start = False
        if b"\r" in text:
            text = self._normalise(text)
        if text.startswith(_DATA) and not self._data and text.find(b"\n") == len(text) - 2 and text.endswith(b"\n"):
            # One event, whole, as most reads are.
            self._rest = b""
            return [text[len(_DATA) : -2]]
        lines = text.split(b"\n")
        self._rest = lines.pop()
        payloads: list[bytes] = []
        for line in lines:
            self._line(line, payloads)
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return payloads

    def close(self) -> list[bytes]:
        """What the end of input leaves: several servers end with a `data:` line and no empty line after it."""
        payloads: list[bytes] = []
        self._line(self._rest.removesuffix(b"\r"), payloads)
        self._line(b"", payloads)
        self._rest = b""
        return payloads

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._size += len(line)
        elif not line and self._data:
            payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data = []
            self._size = 0

    @staticmethod
    def _normalise(text: bytes) -> bytes:
        """CRLF and CR to LF; a CR at the very end stays, as its LF may still be under way."""
        held = b"\r" if text.endswith(b"\r") else b""
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held


def encode(event: JsonObject) -> bytes:
    """One Anthropic stream event as bytes. The name is repeated in `event:`, as the SDKs drop events without one."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))
