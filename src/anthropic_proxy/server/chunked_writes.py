"""ASGI middleware that writes the chunks of a streamed response directly to an HTTP/1.1 connection.

A chunk consists of its size and its bytes (RFC 9112, 7.1), and does not depend on earlier chunks.
Through Hypercorn and h11 it costs several times as much CPU time: they create an event for each
layer and maintain a state that does not change. The head and the end of the response still pass
through them, so that their state remains correct.
"""

import asyncio

from anthropic_proxy.api.asgi import WRITER, AsgiApplication, Message, Receive, Scope, Send


def write_chunks_directly(app: AsgiApplication) -> AsgiApplication:
    """Wrap `app` with a `send` that writes chunks directly to the connection."""

    async def call_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["http_version"] == "1.1":
            send = _ChunkWriter(scope, send).send
        await app(scope, receive, send)

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
            # The connection is closed. Hypercorn receives the same error and ends the request.
            await self._send(message)


def _is_chunked_response(head: Message) -> bool:
    """Return whether h11 sends the body in chunks: if its length is unknown (RFC 9112, 6.3)."""
    header_names = {name.lower() for name, _ in head["headers"]}
    return head["status"] == 200 and b"content-length" not in header_names
