"""Connections of clients: accepted on sockets, and spoken HTTP/1.1 and HTTP/2 with. The only Hypercorn import.

Hypercorn's own `serve` ends connections in an order that cuts HTTP/2 streams (their last frame comes after the farewell),
and on Python 3.12 and later it waits for all of them without a limit. So its protocols are used here, on sockets that are
accepted, drained and closed in an order of our own.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.typing import ASGIFramework, LifespanState, TaskGroup

from anthropic_proxy.listening import BACKLOG
from anthropic_proxy.server.asgi import WRITER, AsgiApplication
from anthropic_proxy.server.chunked_writes import chunked_writes
from anthropic_proxy.server_settings import ServerSettings

# Seconds in which a client has to complete its TLS handshake.
_HANDSHAKE_SECONDS = 30
# Seconds that what was written last may take to be on its way, before the connection is cut.
_FAREWELL_SECONDS = 2


class Connections:
    """Serves ASGI applications on listening sockets."""

    def __init__(self, settings: ServerSettings) -> None:
        self._config = _config(settings)
        self._context = WorkerContext(None)
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._open: dict[asyncio.Task[None], _Connection] = {}

    async def accept(self, listener: socket.socket, app: object, tls: ssl.SSLContext | None = None) -> None:
        """Serve `app` to who connects to `listener`, which is closed in the end."""
        start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        options: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS} if tls else {}
        served = chunked_writes(cast("AsgiApplication", app))
        serve = partial(self._serve, ASGIWrapper(cast("ASGIFramework", served)))
        self._servers[listener] = await start(serve, sock=listener, backlog=BACKLOG, **options)

    def refuse(self, listener: socket.socket) -> None:
        """Close `listener`; the connections that are open go on."""
        self._servers.pop(listener).close()

    async def close(self) -> None:
        """Close everything: idle connections at once, the others when their last bytes are written."""
        for listener in list(self._servers):
            self.refuse(listener)
        await self._context.terminated.set()
        for connection in self._open.values():
            connection.idle_task.ring()
        await self._ended(_FAREWELL_SECONDS)
        for connection in self._open.values():
            connection.writer.transport.abort()
        await self._ended(_FAREWELL_SECONDS)
        for task in self._open:
            task.cancel()
        await self._ended(_FAREWELL_SECONDS)

    async def _ended(self, seconds: float) -> None:
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)

    async def _serve(self, app: ASGIWrapper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the streams of asyncio call this in one
        state = cast("LifespanState", {WRITER: writer})
        loop = asyncio.get_running_loop()
        connection = self._open[task] = _Connection(app, loop, self._config, self._context, state, reader, writer)
        try:
            await connection
        finally:
            del self._open[task]


class _Connection(TCPServer):
    """One connection. Hypercorn waits for another request even when the client has closed it, and keeps its socket for that
    long.
    """

    _is_over = False
    idle_task: "_IdleTimer"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle_task = _IdleTimer(self.config.keep_alive_timeout, self.context)

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            self._is_over = True
            await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        await self._initiate_server_close()

    async def protocol_send(self, event: Event) -> None:
        if not (self._is_over and isinstance(event, Updated)):
            await super().protocol_send(event)


class _IdleTimer(AsyncioSingleTask):
    """Closes a connection that has been idle for so many seconds, or at once when the server closes. Hypercorn's own has
    two tasks for it, which it starts and cancels with each request: a twelfth of all that one costs.
    """

    def __init__(self, seconds: float, context: WorkerContext) -> None:
        super().__init__()
        self._seconds = seconds
        self._context = context
        self._timer: asyncio.TimerHandle | None = None
        self._close: Callable[[], None] = lambda: None

    async def restart(self, task_group: TaskGroup, action: Callable[[], Awaitable[None]]) -> None:
        await self.stop()
        self._close = partial(task_group.spawn, action)
        seconds = 0 if self._context.terminated.is_set() else self._seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.ring)

    async def stop(self) -> None:
        self._stopped()

    def ring(self) -> None:
        """Close the connection, if it is idle."""
        if self._stopped():
            self._close()

    def _stopped(self) -> bool:
        """Stop the timer; False where there is none."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None


def _config(settings: ServerSettings) -> Config:
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
