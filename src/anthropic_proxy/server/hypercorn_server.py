"""Accept the connections of clients, and close them in an order that truncates no response.

Hypercorn's own `serve` closes connections in an order that truncates HTTP/2 streams (their last
frame follows GOAWAY), and on Python 3.12 and later it waits for all of them without a limit. So
this module accepts, drains and closes connections itself; `hypercorn_connection` serves them.
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

# Seconds in which a client must complete its TLS handshake.
_HANDSHAKE_SECONDS = 30
# Seconds in which the last bytes must be sent before the connection is aborted.
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
        """Serve `app` on `listener`, which `close` or `stop_accepting` closes."""
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
        """Ask clients to send no more requests on open connections."""
        self._context.draining = True
        for connection in self._connections.values():
            connection.drain()

    async def close(self) -> None:
        """Close all listeners and connections: idle connections at once, the others when their last
        bytes are sent.
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
    # On HTTP/2 the default of 1000 requests closes the connection together with its other streams.
    config.keep_alive_max_requests = 2**31
    config.h2_max_concurrent_streams = settings.http2_max_concurrent_streams
    config.h2_max_header_list_size = settings.max_header_bytes
    config.h11_max_incomplete_size = settings.max_header_bytes
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config
