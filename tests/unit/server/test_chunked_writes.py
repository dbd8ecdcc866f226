"""Streams are written to HTTP/1.1 connections as chunks, with the same bytes as h11."""

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
    """A connection writer that records the written bytes.

    `errors` maps the name of a method to the exception that it raises.
    """

    def __init__(self, **errors: Exception) -> None:
        self.written = b""
        self._errors = errors

    def write(self, data: bytes) -> None:
        if "write" in self._errors:
            raise self._errors["write"]
        self.written += data

    async def drain(self) -> None:
        if "drain" in self._errors:
            raise self._errors["drain"]


def body_message(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def send_messages(messages: list[Message], writer: Writer, **scope: Any) -> list[Message]:
    """Return the messages that the middleware forwards to the server."""
    forwarded: list[Message] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        forwarded.append(message)

    complete_scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "state": {WRITER: writer},
        **scope,
    }

    async def play() -> None:
        await write_chunks_directly(app)(complete_scope, receive, send)

    asyncio.run(play())
    return forwarded


@given(st.lists(st.binary(min_size=1)))
def test_an_h11_client_reads_the_written_chunks(chunks: list[bytes]) -> None:
    writer = Writer()
    server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    server.receive_data(
        client.send(h11.Request(method="POST", target="/", headers=[("host", "x")])) or b""
    )
    server.receive_data(client.send(h11.EndOfMessage()) or b"")
    server.next_event()
    server.next_event()

    forwarded = send_messages(
        [HEAD, *map(body_message, chunks), body_message(b"", more=False)], writer
    )

    assert forwarded == [HEAD, body_message(b"", more=False)]
    head = server.send(h11.Response(status_code=200, headers=HEAD["headers"]))
    client.receive_data((head or b"") + writer.written + (server.send(h11.EndOfMessage()) or b""))
    assert isinstance(client.next_event(), h11.Response)
    received = []
    while isinstance(event := client.next_event(), h11.Data):
        received.append(bytes(event.data))
    assert b"".join(received) == b"".join(chunks)
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
def test_responses_without_chunks_are_forwarded_to_the_server(
    head: dict[str, Any], scope: dict[str, Any]
) -> None:
    messages = [{**HEAD, **head}, body_message(b"one"), body_message(b"", more=False)]
    writer = Writer()

    assert send_messages(messages, writer, **scope) == messages
    assert writer.written == b""


def test_empty_and_final_body_messages_are_forwarded_to_the_server() -> None:
    messages = [HEAD, body_message(b""), body_message(b"end", more=False)]
    writer = Writer()

    assert send_messages(messages, writer) == messages
    assert writer.written == b""


@pytest.mark.parametrize("method", ["write", "drain"])
@pytest.mark.parametrize(
    "error", [ConnectionResetError(), RuntimeError("write() after write_eof()")]
)
def test_messages_on_a_closed_connection_are_forwarded_to_the_server(
    method: str, error: Exception
) -> None:
    messages = [HEAD, body_message(b"one"), body_message(b"", more=False)]

    assert send_messages(messages, Writer(**{method: error})) == messages
