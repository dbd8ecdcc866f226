"""Connections that are drained, with an application of the test's own."""

import asyncio
from typing import Any

import h2.events

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.server.hypercorn_server import HypercornServer
from anthropic_proxy.server.sockets import format_base_url, open_tcp_listener
from tests.support.http2_client import Http2Client
from tests.support.scripted_upstream import DEADLINE


class SlowEnd:
    """An application whose response ends after its last bytes, while connections drain."""

    def __init__(self, connections: HypercornServer) -> None:
        self._connections = connections
        self.is_read = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it", "more_body": True})
        await self.is_read.wait()
        self._connections.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _exchange(address: str, loop: asyncio.AbstractEventLoop, app: SlowEnd) -> list[h2.events.Event]:
    """Request the response of `app`; return all events until GOAWAY."""
    with Http2Client(address) as client:
        stream = client.request("GET", "/")
        client.read_until(lambda each: each.body(stream) == b"all of it")
        loop.call_soon_threadsafe(app.is_read.set)
        return client.read_until(lambda each: bool(each.goodbyes())).events


async def _drained_stream() -> list[h2.events.Event]:
    connections = HypercornServer(Settings(_env_file=None, UPSTREAM_BASE_URL="http://127.0.0.1:1"))
    app = SlowEnd(connections)
    listener = open_tcp_listener("127.0.0.1", 0)
    await connections.accept(listener, app)
    address = format_base_url(listener)
    events = await asyncio.wait_for(
        asyncio.to_thread(_exchange, address, asyncio.get_running_loop(), app), DEADLINE
    )
    await connections.close()
    return events


def test_a_stream_ends_before_goaway() -> None:
    """The end of a stream is a frame, too: without it the client takes the response for cut."""
    kinds = [type(each) for each in asyncio.run(_drained_stream())]
    assert h2.events.StreamEnded in kinds
    assert kinds.index(h2.events.StreamEnded) < kinds.index(h2.events.ConnectionTerminated)
