"""An HTTP/2 client that shows every frame and leaves flow control to the test.

httpx cannot replace it: its streams take turns in reading the connection, so one whose data has
arrived may wait until another one's does. A stream of a proxy that sends only pings then seems to
stall for the interval of the pings.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx

from tests.support.scripted_upstream import DEADLINE


class Http2Client:
    """One connection over cleartext, with prior knowledge. `events` are all that came, in order.

    acknowledges: whether received data opens the flow control windows again.
    """

    def __init__(self, address: str, *, acknowledges: bool = True) -> None:
        url = httpx.URL(address)
        self.authority = url.netloc.decode()
        self.events: list[h2.events.Event] = []
        self.is_closed = False
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self._acknowledges = acknowledges
        self._socket = socket.create_connection((url.host, url.port), timeout=DEADLINE)
        self.connection.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *headers: tuple[str, str],
        ends: bool = True,
    ) -> int:
        """Send a request; return the stream's id. ends: whether the request is complete with it."""
        stream_id = self.connection.get_next_available_stream_id()
        pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", self.authority),
            (":path", path),
        ]
        self.connection.send_headers(stream_id, [*pseudo, *headers], end_stream=ends and not body)
        if body:
            self.connection.send_data(stream_id, body, end_stream=ends)
        self.flush()
        return stream_id

    def send(self, data: bytes) -> None:
        """Send any bytes. A connection that the server has closed is no error."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def flush(self) -> None:
        """Send what the connection has prepared."""
        self.send(self.connection.data_to_send())

    def read_until(self, is_done: Callable[[Self], bool]) -> Self:
        """Receive until `is_done` or the end of the connection."""
        while not (self.is_closed or is_done(self)):
            self.read()
        assert is_done(self) or self.is_closed
        return self

    def read(self) -> None:
        """Receive once. The end of the connection sets `is_closed`."""
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.is_closed = True
            return
        with contextlib.suppress(h2.exceptions.ProtocolError):  # frames behind a GOAWAY
            self._received(self.connection.receive_data(data))
        self.flush()

    def of(self, stream_id: int, *kinds: type[h2.events.Event]) -> list[Any]:
        """The events of these kinds of one stream."""
        return [
            each
            for each in self.events
            if isinstance(each, kinds) and getattr(each, "stream_id", 0) == stream_id
        ]

    def status(self, stream_id: int) -> int | None:
        """The status of a response, once it has come."""
        for event in self.of(stream_id, h2.events.ResponseReceived):
            return int(dict(event.headers)[b":status"])
        return None

    def body(self, stream_id: int) -> bytes:
        """What has come of a response's body."""
        return b"".join(event.data for event in self.of(stream_id, h2.events.DataReceived))

    def has_ended(self, stream_id: int) -> bool:
        """Whether a stream is complete, or was reset."""
        return bool(self.of(stream_id, h2.events.StreamEnded, h2.events.StreamReset))

    def goodbyes(self) -> list[int]:
        """The error codes of all GOAWAY frames that came."""
        return [
            int(each.error_code or 0)
            for each in self.events
            if isinstance(each, h2.events.ConnectionTerminated)
        ]

    def _received(self, events: list[h2.events.Event]) -> None:
        self.events += events
        for event in self._data_of(events):
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream has ended
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )

    def _data_of(self, events: list[h2.events.Event]) -> Iterator[Any]:
        if self._acknowledges:
            yield from (event for event in events if isinstance(event, h2.events.DataReceived))
