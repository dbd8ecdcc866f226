"""Connections of clients: accepted on listening sockets, and closed in an order that cuts no response.

Hypercorn's own `serve` ends connections in an order that cuts HTTP/2 streams (their last frame comes after GOAWAY), and on
Python 3.12 and later it waits for all of them without a limit. So this module uses Hypercorn's protocols, with the
corrections of `hypercorn_protocols`, on sockets that it accepts, drains and closes itself.
"""

import asyncio
import logging
import socket
import ssl
from functools import partial
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework, LifespanState

from anthropic_proxy.api.asgi import WRITER, AsgiApplication
from anthropic_proxy.config.settings import ServerSettings
from anthropic_proxy.server.chunked_writes import write_chunks_directly
from anthropic_proxy.server.hypercorn_protocols import Connection, ServerContext
from anthropic_proxy.server.sockets import BACKLOG

# Seconds in which a client has to complete its TLS handshake.
_HANDSHAKE_SECONDS = 30
# Seconds that what was written last may take to be on its way, before the connection is cut.
_CLOSE_SECONDS = 2


class HypercornServer:
    """Serves ASGI applications on listening sockets."""

    def __init__(self, settings: ServerSettings) -> None:
        self._config = _create_config(settings)
        self._context = ServerContext(settings.header_timeout)
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def accept(
        self, listener: socket.socket, app: object, tls: ssl.SSLContext | None = None
    ) -> None:
        """Serve `app` to who connects to `listener`, which is closed in the end."""
        start = (
            asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        )
        options: dict[str, Any] = (
            {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS} if tls else {}
        )
        wrapped_app = write_chunks_directly(cast("AsgiApplication", app))
        serve = partial(self._serve, ASGIWrapper(cast("ASGIFramework", wrapped_app)))
        self._servers[listener] = await start(serve, sock=listener, backlog=BACKLOG, **options)

    def stop_accepting(self, listener: socket.socket) -> None:
        """Close `listener`; the connections that are open go on."""
        self._servers.pop(listener).close()

    def drain(self) -> None:
        """Ask clients to send no more requests on the connections that are open."""
        self._context.draining = True
        for connection in self._connections.values():
            connection.drain()

    async def close(self) -> None:
        """Close everything: idle connections at once, the others when their last bytes are written."""
        for listener in list(self._servers):
            self.stop_accepting(listener)
        await self._context.terminated.set()
        for connection in self._connections.values():
            connection.idle_task.fire()
        await self._wait_closed(_CLOSE_SECONDS)
        for connection in self._connections.values():
            connection.writer.transport.abort()
        await self._wait_closed(_CLOSE_SECONDS)
        for task in self._connections:
            task.cancel()
        await self._wait_closed(_CLOSE_SECONDS)

    async def _wait_closed(self, seconds: float) -> None:
        if self._connections:
            await asyncio.wait(self._connections, timeout=seconds)

    async def _serve(
        self, app: ASGIWrapper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the streams of asyncio call this in one
        state = cast("LifespanState", {WRITER: writer})
        loop = asyncio.get_running_loop()
        connection = self._connections[task] = Connection(
            app, loop, self._config, self._context, state, reader, writer
        )
        try:
            await connection
        finally:
            del self._connections[task]


def _create_config(settings: ServerSettings) -> Config:
    config = Config()
    config.keep_alive_timeout = settings.keepalive_timeout
    # On HTTP/2 the default of 1000 requests closes the connection together with its other streams.
    config.keep_alive_max_requests = 2**31
    config.h2_max_concurrent_streams = settings.http2_max_concurrent_streams
    config.h2_max_header_list_size = settings.max_header_bytes
    config.h11_max_incomplete_size = settings.max_header_bytes
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config
