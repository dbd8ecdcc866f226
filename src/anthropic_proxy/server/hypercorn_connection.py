"""One connection of a client: Hypercorn's class, with corrections.

This module, `http1_protocol` and `http2_protocol` contain all workarounds for Hypercorn. They
override private methods, so the version of Hypercorn is pinned. Each class lists the defects of
Hypercorn 0.18.0 that it corrects.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask, WorkerContext
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from anthropic_proxy.api.asgi import ABORT
from anthropic_proxy.server.http1_protocol import EarlyResponseEnd, Http1Protocol
from anthropic_proxy.server.http2_protocol import Http2Protocol
from anthropic_proxy.server.http_streams import ServerContext

# Seconds to deliver the last bytes before a connection is aborted: an idle connection, or a
# connection whose client still sends a request body, which the server discards.
_LINGER_SECONDS = 5


class Connection(TCPServer):
    """One connection of a client. Await it to serve requests until either side closes it.

    Corrected defects of Hypercorn's class: it does not close the socket when the client has closed
    the connection, and it waits without a limit until the client has read the last bytes.
    """

    context: ServerContext
    # It has the methods of Hypercorn's class that are used here.
    protocol: "_Protocol"  # type: ignore[assignment]
    idle_task: "_IdleTimer"
    _is_closed = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle_task = _IdleTimer(
            self.context.header_seconds, self.config.keep_alive_timeout, self.context
        )

    async def run(self) -> None:
        socket = self.writer.get_extra_info("socket")
        tls = self.writer.get_extra_info("ssl_object")
        # The client may close the connection at any time, even before it is served.
        with contextlib.suppress(OSError):
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup(self.loop) as self._task_group:
                state = ConnectionState({**self.state, ABORT: self.writer.transport.abort})
                shared = (self.app, self.config, self.context, self._task_group, state)
                peers = (tls is not None, client, server)
                self.protocol = _Protocol(
                    (*shared, *peers, self.protocol_send), self.writer, self.idle_task
                )
                if tls is not None and tls.selected_alpn_protocol() == "h2":
                    await self.protocol.start_http2()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
        # A client that does not read must not keep the connection open.
        self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)
        await self._close()

    def drain(self) -> None:
        """Notify the client that the connection will close, if the protocol supports it (GOAWAY).

        This does not wait until the bytes are sent: the client may not read.
        """
        if hasattr(self, "protocol") and not self._is_closed:
            self._task_group.spawn(self.protocol.drain)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, EarlyResponseEnd):
            self._linger()
        elif not (self._is_closed and isinstance(event, Updated)):
            await super().protocol_send(event)

    def _linger(self) -> None:
        """Close only the sending side, and discard received bytes for some seconds (RFC 9112, 9.6).

        The operating system resets a connection that is closed with unread bytes. A front proxy
        that still sends would then return 502 instead of the response.
        """
        if self.writer.can_write_eof():
            self.writer.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            self._is_closed = True
            await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        await self._initiate_server_close()
        self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)


class _IdleTimer(AsyncioSingleTask):
    """Close a connection that waits too long for the head of a request.

    The first head must be complete `header_seconds` after the start of the connection. A later head
    must begin within `idle_seconds`, and be complete `header_seconds` after its first bytes. When
    the server closes, idle connections are closed at once.

    Hypercorn's class starts and cancels two tasks for each request, a twelfth of its CPU time.
    """

    def __init__(self, header_seconds: float, idle_seconds: float, context: WorkerContext) -> None:
        super().__init__()
        self._header_seconds = header_seconds
        self._idle_seconds = idle_seconds
        self._context = context
        self._loop = asyncio.get_running_loop()
        # Loop time at which the head must be complete; None if it has not begun.
        self._head_deadline: float | None = self._loop.time() + header_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._close: Callable[[], None] = lambda: None

    async def restart(self, task_group: Any, action: Callable[[], Awaitable[None]]) -> None:
        self._cancel()
        self._close = partial(task_group.spawn, action)
        now = self._loop.time()
        if self._context.terminated.is_set():
            deadline = now
        elif self._head_deadline is None:
            deadline = now + self._idle_seconds
        else:
            deadline = self._head_deadline
        self._timer = self._loop.call_at(deadline, self.fire)

    async def stop(self) -> None:
        self._head_deadline = None
        self._cancel()

    @property
    def is_idle(self) -> bool:
        """True if the connection waits for the first bytes of a later head."""
        return self._timer is not None and self._head_deadline is None

    def start_head_timeout(self) -> None:
        """Limit the time for the rest of a head. Additional bytes do not extend the limit."""
        if self._cancel():
            self._head_deadline = self._loop.time() + self._header_seconds
            self._timer = self._loop.call_at(self._head_deadline, self.fire)

    def fire(self) -> None:
        """Close the connection if it is idle."""
        if self._cancel():
            self._close()

    def _cancel(self) -> bool:
        """Cancel the timer, and return whether it was running."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None


class _Protocol:
    """The protocol of a connection: HTTP/1.1 until the client selects HTTP/2.

    A client selects HTTP/2 by ALPN, by prior knowledge, or by an upgrade of its first request.
    """

    def __init__(
        self, arguments: tuple[Any, ...], writer: asyncio.StreamWriter, idle_timer: _IdleTimer
    ) -> None:
        # Arguments of the constructors of Hypercorn's protocol classes.
        self._arguments = arguments
        self._writer = writer
        self._idle_timer = idle_timer
        self._current: Http1Protocol | Http2Protocol = Http1Protocol(*arguments)

    async def handle(self, event: Event) -> None:
        """Handle bytes from the client, or the end of the connection."""
        try:
            await self._current.handle(event)
        except H2ProtocolAssumedError as switch:
            await self.start_http2()
            await self._current.handle(RawData(switch.data))
        except H2CProtocolRequiredError as switch:
            await self.start_http2(switch.headers, switch.settings)
            await self._current.handle(RawData(switch.data))
        if self._idle_timer.is_idle and self._has_partial_head:
            self._idle_timer.start_head_timeout()

    @property
    def _has_partial_head(self) -> bool:
        return isinstance(self._current, Http1Protocol) and self._current.has_partial_head

    async def start_http2(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Switch to HTTP/2. headers, settings: from the HTTP/1.1 request with the upgrade."""
        self._current = Http2Protocol(*self._arguments, writer=self._writer)
        await self._current.initiate(headers, settings)

    async def drain(self) -> None:
        """Send GOAWAY on HTTP/2. On HTTP/1.1 the next response contains `connection: close`."""
        if isinstance(self._current, Http2Protocol):
            await self._current.close_if_drained()
