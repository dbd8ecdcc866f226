"""Chunks of a stream are written to an HTTP/1.1 connection as h11 would write them, and other
responses are not.
"""

import asyncio
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.api.asgi import WRITER, Message
from anthropic_proxy.server.chunked_writes import write_chunks_directly

HEAD: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


class Writer:
    """The writer of a connection, which records what is written. `broken`: the error of a method of
    this name.
    """

    def __init__(self, **broken: Exception) -> None:
        self.written = b""
        self._broken = broken

    def write(self, data: bytes) -> None:
        if "write" in self._broken:
            raise self._broken["write"]
        self.written += data

    async def drain(self) -> None:
        if "drain" in self._broken:
            raise self._broken["drain"]


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sent(messages: list[Message], writer: Writer, **scope: Any) -> list[Message]:
    """What of an application's messages goes on to the server below."""
    passed_on: list[Message] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        passed_on.append(message)

    whole = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "state": {WRITER: writer},
        **scope,
    }

    async def play() -> None:
        await write_chunks_directly(app)(whole, receive, send)

    asyncio.run(play())
    return passed_on


@given(st.lists(st.binary(min_size=1)))
def test_pieces_are_what_a_client_of_http_1_1_reads(pieces: list[bytes]) -> None:
    writer = Writer()
    server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    server.receive_data(
        client.send(h11.Request(method="POST", target="/", headers=[("host", "x")])) or b""
    )
    server.receive_data(client.send(h11.EndOfMessage()) or b"")
    server.next_event()
    server.next_event()

    passed_on = sent([HEAD, *map(piece, pieces), piece(b"", more=False)], writer)

    assert passed_on == [HEAD, piece(b"", more=False)]
    head = server.send(h11.Response(status_code=200, headers=HEAD["headers"]))
    client.receive_data((head or b"") + writer.written + (server.send(h11.EndOfMessage()) or b""))
    assert isinstance(client.next_event(), h11.Response)
    read = []
    while isinstance(event := client.next_event(), h11.Data):
        read.append(bytes(event.data))
    assert b"".join(read) == b"".join(pieces)
    assert isinstance(event, h11.EndOfMessage)


@pytest.mark.parametrize(
    ("head", "scope"),
    [
        ({}, {"http_version": "1.0"}),
        ({}, {"http_version": "2"}),
        ({}, {"method": "HEAD"}),
        ({"status": 204}, {}),
        ({"headers": [(b"Content-Length", b"3")]}, {}),
    ],
    ids=["HTTP/1.0", "HTTP/2", "HEAD", "no content", "a length"],
)
def test_answers_without_chunks_take_the_usual_way(
    head: dict[str, Any], scope: dict[str, Any]
) -> None:
    messages = [{**HEAD, **head}, piece(b"one"), piece(b"", more=False)]
    writer = Writer()

    assert sent(messages, writer, **scope) == messages
    assert writer.written == b""


def test_a_last_piece_and_an_empty_one_take_the_usual_way() -> None:
    messages = [HEAD, piece(b""), piece(b"end", more=False)]
    writer = Writer()

    assert sent(messages, writer) == messages
    assert writer.written == b""


@pytest.mark.parametrize("at", ["write", "drain"])
@pytest.mark.parametrize(
    "error", [ConnectionResetError(), RuntimeError("write() after write_eof()")]
)
def test_a_connection_that_is_closed_is_left_to_the_server(at: str, error: Exception) -> None:
    messages = [HEAD, piece(b"one"), piece(b"", more=False)]

    assert sent(messages, Writer(**{at: error})) == messages
