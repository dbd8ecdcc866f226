"""Pieces of a streamed answer, written to an HTTP/1.1 connection as the chunks that they are. An ASGI middleware.

A chunk is its size and its bytes (RFC 9112, 7.1): nothing in it depends on what came before. Through Hypercorn and h11,
which build an event for each layer and look after a state that does not change, a piece costs several times as much. The
head and the end of the answer take that way, so that the connection is in the state in which they expect it.
"""

import asyncio

from anthropic_proxy.api.asgi import WRITER, AsgiApplication, Message, Receive, Scope, Send


def write_chunks_directly(app: AsgiApplication) -> AsgiApplication:
    """Return `app`, writing body chunks straight to the connection's writer."""

    async def call_app(scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http" and scope["http_version"] == "1.1"
        await app(scope, receive, _ChunkWriter(scope, send).send if is_http else send)

    return call_app


class _ChunkWriter:
    def __init__(self, scope: Scope, send: Send) -> None:
        self._writer: asyncio.StreamWriter = scope["state"][WRITER]
        self._method = scope["method"]
        self._send = send
        self._is_chunked = False

    async def send(self, message: Message) -> None:
        body = message.get("body")
        if not (self._is_chunked and body and message.get("more_body")):
            if message["type"] == "http.response.start":
                self._is_chunked = self._method != "HEAD" and _is_chunked_response(message)
            await self._send(message)
            return
        try:
            self._writer.write(b"%x\r\n%b\r\n" % (len(body), body))
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            # It is closed; Hypercorn finds that out in the same way, and ends the request.
            await self._send(message)


def _is_chunked_response(head: Message) -> bool:
    """Whether h11 sends the body of this answer in chunks: it does so where its length is not known (RFC 9112, 6.3)."""
    return head["status"] == 200 and not any(
        name.lower() == b"content-length" for name, _ in head["headers"]
    )
