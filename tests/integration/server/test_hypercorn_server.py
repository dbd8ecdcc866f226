"""Draining of connections, with a test application."""

import asyncio
from typing import Any

import h2.events

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.server.hypercorn_server import HypercornServer
from anthropic_proxy.server.sockets import format_base_url, open_tcp_listener
from tests.support.http2_client import Http2Client
from tests.support.scripted_upstream import DEADLINE


class SlowEnd:
    """An application that ends its response separately, while connections drain."""

    def __init__(self, server: HypercornServer) -> None:
        self._server = server
        self.is_read = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it", "more_body": True})
        await self.is_read.wait()
        self._server.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _exchange(address: str, loop: asyncio.AbstractEventLoop, app: SlowEnd) -> list[h2.events.Event]:
    """Request the response of `app`; return all events until GOAWAY."""
    with Http2Client(address) as client:
        stream = client.request("GET", "/")
        client.read_until(lambda each: each.body(stream) == b"all of it")
        loop.call_soon_threadsafe(app.is_read.set)
        return client.read_until(lambda each: bool(each.goodbyes())).events


async def _drain_during_stream() -> list[h2.events.Event]:
    server = HypercornServer(Settings(_env_file=None, UPSTREAM_BASE_URL="http://127.0.0.1:1"))
    app = SlowEnd(server)
    listener = open_tcp_listener("127.0.0.1", 0)
    await server.accept(listener, app)
    address = format_base_url(listener)
    events = await asyncio.wait_for(
        asyncio.to_thread(_exchange, address, asyncio.get_running_loop(), app), DEADLINE
    )
    await server.close()
    return events


def test_a_stream_ends_before_goaway() -> None:
    """The client treats a response without the END_STREAM frame as truncated."""
    types = [type(each) for each in asyncio.run(_drain_during_stream())]
    assert h2.events.StreamEnded in types
    assert types.index(h2.events.StreamEnded) < types.index(h2.events.ConnectionTerminated)
