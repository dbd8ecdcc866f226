"""Give the events of a stream the form that clients of the Messages API require.

Some gateways omit the names of events or the empty lines between them. The SDKs ignore events
without a name. Regular streams are not changed.
"""

import re

from anthropic_proxy.translate.response.event_translator import parse_chunks
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity, find_chunk_error
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object
from anthropic_proxy.wire.payloads import is_done
from anthropic_proxy.wire.sse import (
    DONE,
    SSEDecoder,
    is_each_line_an_event,
    is_error_event,
    parse_data,
)

# The first event of a stream with another form is shorter.
_MAX_DETECTION_BYTES = 4096

_NAME = re.compile(r"[a-z][a-z_]*")
_NAMED = re.compile(rb"^event:", re.MULTILINE)


class EventRepairer:
    """Repairs the events of one stream if they are not regular."""

    def __init__(self, upstream: UpstreamIdentity) -> None:
        # True if the events need no repair: `feed` returns all bytes unchanged.
        self.is_regular = False
        self._upstream = upstream
        # The bytes until the form of the stream is known.
        self._held = b""
        self._decoder: SSEDecoder | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to forward. Raises ApiError and EventTooLargeError."""
        if self.is_regular:
            return data
        if self._decoder is None:
            self._held += data
            needs_repair = _needs_repair(self._held)
            if needs_repair is None and len(self._held) <= _MAX_DETECTION_BYTES:
                return b""
            data, self._held = self._held, b""
            if not needs_repair:
                self.is_regular = True
                return data
            self._decoder = SSEDecoder()
        return self._repair(self._decoder.split_events(data))

    def close(self) -> bytes:
        """Return the bytes that were held."""
        if self._decoder is not None:
            return self._repair(self._decoder.split_rest())
        held, self._held = self._held, b""
        return held

    def _repair(self, raw_events: list[bytes]) -> bytes:
        repaired = bytearray()
        for raw_event in raw_events:
            payload = parse_data(raw_event)
            if payload is None:
                continue
            if is_done(payload):
                repaired += b"data: %b\n\n" % DONE
            elif is_error_event(raw_event):
                repaired += _encode("error", payload)
            else:
                for event in parse_chunks(payload, self._upstream):
                    repaired += _encode(_get_name(event), dumps(event))
        return bytes(repaired)


def _needs_repair(beginning: bytes) -> bool | None:
    """Return whether the events of a stream need a repair; None if this is not known yet."""
    text = beginning.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if is_each_line_an_event(text):
        return True
    for raw_event in SSEDecoder().split_events(text):
        payload = parse_data(raw_event)
        if payload is None:
            continue
        if _NAMED.search(raw_event):
            return False
        event = loads_object(payload)
        return event is not None and bool(_get_name(event))
    return None


def _get_name(event: JsonObject) -> str:
    """Return the name of an event; empty if its data shows none."""
    kind = event.get("type")
    if isinstance(kind, str) and _NAME.fullmatch(kind):
        return kind
    return "" if find_chunk_error(event) is None else "error"


def _encode(name: str, payload: bytes) -> bytes:
    if not name:
        return b"data: %b\n\n" % payload
    return b"event: %b\ndata: %b\n\n" % (name.encode(), payload.replace(b"\n", b"\ndata: "))
