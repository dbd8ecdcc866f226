"""Accept the connections of clients, and close them without truncating responses.

Hypercorn's `serve` truncates HTTP/2 streams when it closes connections (their last frame follows
GOAWAY), and on Python 3.12 and later it waits for all connections without a limit. Therefore this
module accepts, drains and closes connections. `hypercorn_connection` serves them.
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
from anthropic_proxy.server.http_streams import ServerContext
from anthropic_proxy.server.hypercorn_connection import Connection
from anthropic_proxy.server.sockets import BACKLOG

# Time limit for a TLS handshake.
_HANDSHAKE_SECONDS = 30
# Seconds to send the last bytes before a connection is aborted.
_CLOSE_SECONDS = 2


class HypercornServer:
    """Serve ASGI applications on listening sockets."""

    def __init__(self, settings: ServerSettings) -> None:
        self._config = _create_config(settings)
        self._context = ServerContext(settings.header_timeout)
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def accept(
        self, listener: socket.socket, app: object, tls: ssl.SSLContext | None = None
    ) -> None:
        """Serve `app` on `listener`. `close` and `stop_accepting` close the listener."""
        options: dict[str, Any] = {"sock": listener, "backlog": BACKLOG}
        if tls:
            options |= {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS}
        wrapped_app = write_chunks_directly(cast("AsgiApplication", app))
        serve = partial(self._serve, ASGIWrapper(cast("ASGIFramework", wrapped_app)))
        if listener.family == socket.AF_UNIX:
            server = await asyncio.start_unix_server(serve, **options)
        else:
            server = await asyncio.start_server(serve, **options)
        self._servers[listener] = server

    def stop_accepting(self, listener: socket.socket) -> None:
        """Close `listener`. Open connections continue."""
        self._servers.pop(listener).close()

    def drain(self) -> None:
        """Notify clients that their connections will close."""
        self._context.draining = True
        for connection in self._connections.values():
            connection.drain()

    async def close(self) -> None:
        """Close all listeners and connections.

        Idle connections are closed at once, other connections after their last bytes are sent.
        """
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
        assert task is not None  # noqa: S101 - asyncio calls this in a task
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
    # At the default limit of 1000 requests, an HTTP/2 connection is closed with all its streams.
    config.keep_alive_max_requests = 2**31
    config.h2_max_concurrent_streams = settings.http2_max_concurrent_streams
    config.h2_max_header_list_size = settings.max_header_bytes
    config.h11_max_incomplete_size = settings.max_header_bytes
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config
