"""One connection of a client: Hypercorn's class, with corrections.

The version of Hypercorn is pinned, because this module, `http1_protocol` and `http2_protocol`
override private methods. They are the only place for workarounds of Hypercorn. Each class states
the defects of Hypercorn 0.18.0 that it removes.
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

# Seconds in which the last bytes must reach the client before the connection is closed: of an idle
# connection, or of one whose client still sends a body that the server discards.
_LINGER_SECONDS = 5


class Connection(TCPServer):
    """One connection of a client. Await it to serve requests until either side closes it.

    Hypercorn's class keeps the socket of a connection that the client has closed and waits for
    another request. It waits without a limit until the client has read the last bytes.
    """

    context: ServerContext
    # It has the methods of Hypercorn's class that are called here.
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
        # The client may have closed the connection before, or while, it is served.
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
        # A client that reads nothing must not keep the connection until it closes it.
        self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)
        await self._close()

    def drain(self) -> None:
        """Ask the client to send no more requests on this connection, if the protocol can express
        that.

        Nothing waits for the bytes to be sent: the client may not read.
        """
        if hasattr(self, "protocol") and not self._is_closed:
            self._task_group.spawn(self.protocol.drain)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, EarlyResponseEnd):
            self._linger()
        elif not (self._is_closed and isinstance(event, Updated)):
            await super().protocol_send(event)

    def _linger(self) -> None:
        """Close only the sending side; for some seconds the read loop discards what the client
        sends (RFC 9112, 9.6).

        The operating system resets a connection that is closed with unread bytes. A front proxy
        that still sends would then respond with 502 instead of the response.
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
    """Closes a connection that waits too long for the head of a request, or at once when the server
    closes.

    The first head must be complete `header_seconds` after the connection began. A later head must
    begin within `idle_seconds`, and be complete `header_seconds` after its first bytes.

    Hypercorn's class starts and cancels two tasks for each request, a twelfth of its cost.
    """

    def __init__(self, header_seconds: float, idle_seconds: float, context: WorkerContext) -> None:
        super().__init__()
        self._header_seconds = header_seconds
        self._idle_seconds = idle_seconds
        self._context = context
        self._loop = asyncio.get_running_loop()
        # loop time at which a head must be complete; None: the next head has not begun
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
        """Whether the connection waits for the first bytes of a later head."""
        return self._timer is not None and self._head_deadline is None

    def start_head_timeout(self) -> None:
        """Limit the time for the rest of a head whose first bytes have arrived. Further bytes do
        not extend it.
        """
        if self._cancel():
            self._head_deadline = self._loop.time() + self._header_seconds
            self._timer = self._loop.call_at(self._head_deadline, self.fire)

    def fire(self) -> None:
        """Close the connection, if it is idle."""
        if self._cancel():
            self._close()

    def _cancel(self) -> bool:
        """Cancel the timer; return whether there was one."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None


class _Protocol:
    """The protocol of a connection: HTTP/1.1 until the client speaks HTTP/2 (by ALPN, by prior
    knowledge, or by an upgrade of its first request).
    """

    def __init__(
        self, arguments: tuple[Any, ...], writer: asyncio.StreamWriter, idle_timer: _IdleTimer
    ) -> None:
        # for the constructors of Hypercorn's protocol classes
        self._arguments = arguments
        self._writer = writer
        self._idle_timer = idle_timer
        self._current: Http1Protocol | Http2Protocol = Http1Protocol(*arguments)

    async def handle(self, event: Event) -> None:
        """Process bytes from the client, or the end of the connection."""
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
        """Switch to HTTP/2. headers, settings: of the HTTP/1.1 request that asks for an upgrade."""
        self._current = Http2Protocol(*self._arguments, writer=self._writer)
        await self._current.initiate(headers, settings)

    async def drain(self) -> None:
        """Ask the client to send no more requests. HTTP/1.1 does so in its next response."""
        if isinstance(self._current, Http2Protocol):
            await self._current.close_if_drained()
