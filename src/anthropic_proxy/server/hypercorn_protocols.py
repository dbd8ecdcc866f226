"""Hypercorn's connection and protocol classes with corrections. The one place for workarounds of Hypercorn.

The version of Hypercorn is pinned, because this module overrides private methods. Each class states the defects of
Hypercorn 0.18.0 that it removes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask, WorkerContext
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Request
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import (
    STREAM_ID,
    H2CProtocolRequiredError,
    H2ProtocolAssumedError,
    H11Protocol,
)
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import ConnectionState
from hypercorn.utils import filter_pseudo_headers, parse_socket_addr
from priority.priority import PriorityTree

from anthropic_proxy.api.asgi import ABORT
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.server.http2_frames import FrameBudget, FrameReader, SendBuffer

# Seconds in which the last bytes must reach the client before the connection is cut: of an idle connection, or of one whose
# client still sends a body that nobody reads.
_LINGER_SECONDS = 5

_ERROR_TEXTS = {
    431: "The request headers are too large: MAX_HEADER_BYTES is the limit.",
    501: "The transfer encoding of the request is not supported.",
    505: "The HTTP version of the request is not supported: use HTTP/1.1 or HTTP/2.",
}
_MALFORMED_TEXT = "The HTTP request is malformed."


class _EarlyResponseEnd(Event):
    """The response is complete, and the client still sends the body of its request."""


class ServerContext(WorkerContext):
    """What all connections of a server share. draining: clients are asked to send no more requests."""

    draining = False

    def __init__(self, header_seconds: float) -> None:
        """header_seconds: that a client may take to send the head of a request."""
        super().__init__(None)
        self.header_seconds = header_seconds


class Connection(TCPServer):
    """One connection of a client. Await it to serve requests until either side closes it.

    Hypercorn's class waits for another request when the client has closed the connection, and keeps the socket for that
    long; and it waits without a limit for the last bytes to be read by the client.
    """

    context: ServerContext
    protocol: "_Protocol"  # type: ignore[assignment]  # has the methods of Hypercorn's class that are called here
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
        await self._close()

    def drain(self) -> None:
        """Ask the client to send no more requests on this connection, where the protocol can say that.

        Nothing waits for it: a client that does not read can't be sent anything.
        """
        if hasattr(self, "protocol") and not self._is_closed:
            self._task_group.spawn(self.protocol.drain)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, _EarlyResponseEnd):
            self._linger()
        elif not (self._is_closed and isinstance(event, Updated)):
            await super().protocol_send(event)

    def _linger(self) -> None:
        """End the sending side only, for some seconds, in which the read loop discards what comes (RFC 9112, 9.6).

        The operating system resets a connection that is closed with unread bytes, and a front proxy that is still sending
        responds with 502 then, in place of the response.
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
    """Closes a connection that waits too long for the head of a request, or at once when the server closes.

    The first head must be complete `header_seconds` after the connection began. A later head must begin within
    `idle_seconds`, and be complete `header_seconds` after that.

    Hypercorn's class starts and cancels two tasks for each request: a twelfth of the cost of a request.
    """

    def __init__(self, header_seconds: float, idle_seconds: float, context: WorkerContext) -> None:
        super().__init__()
        self._header_seconds = header_seconds
        self._idle_seconds = idle_seconds
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._head_deadline: float | None = self._loop.time() + header_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._close: Callable[[], None] = lambda: None

    async def restart(self, task_group: Any, action: Callable[[], Awaitable[None]]) -> None:
        self._cancel()
        self._close = partial(task_group.spawn, action)
        now = self._loop.time()
        deadline = now + self._idle_seconds if self._head_deadline is None else self._head_deadline
        self._timer = self._loop.call_at(
            now if self._context.terminated.is_set() else deadline, self.fire
        )

    async def stop(self) -> None:
        self._head_deadline = None
        self._cancel()

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for the first bytes of a later head."""
        return self._timer is not None and self._head_deadline is None

    def start_head_timeout(self) -> None:
        """Limit the time for the rest of a head, whose first bytes have come. Further bytes do not extend it."""
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
    """The protocol of a connection: HTTP/1.1 until the client speaks HTTP/2 (by ALPN, by prior knowledge, or by an upgrade
    of its first request).
    """

    def __init__(
        self, arguments: tuple[Any, ...], writer: asyncio.StreamWriter, idle_timer: _IdleTimer
    ) -> None:
        """arguments: of Hypercorn's protocol classes."""
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
        if (
            self._idle_timer.is_idle
            and isinstance(self._current, Http1Protocol)
            and self._current.has_partial_head
        ):
            self._idle_timer.start_head_timeout()

    async def start_http2(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Switch to HTTP/2. headers, settings: of the HTTP/1.1 request that asks for the upgrade."""
        self._current = Http2Protocol(*self._arguments, writer=self._writer)
        await self._current.initiate(headers, settings)

    async def drain(self) -> None:
        """See `Connection.drain`. HTTP/1.1 says it in the response to the next request."""
        if isinstance(self._current, Http2Protocol):
            await self._current.close_if_drained()


class _RejectedRequestError(Exception):
    """The request is answered with an error, and the connection closed."""

    def __init__(self, status: int, method: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.has_body = method.upper() != b"HEAD"


class Http1Protocol(H11Protocol):
    """HTTP/1.0 and HTTP/1.1.

    Hypercorn's class accepts any version, starts websockets, fails on malformed settings of an upgrade to HTTP/2, passes
    on targets that no URL parser accepts, sends errors without a body, and resets connections whose client still sends when
    the response has ended.
    """

    _is_lingering = False

    async def handle(self, event: Event) -> None:
        if not (self._is_lingering and isinstance(event, RawData)):
            await super().handle(event)

    async def _maybe_recycle(self) -> None:
        is_complete = self.connection.our_state in {h11.DONE, h11.MUST_CLOSE}
        if (
            not is_complete
            or self.connection.their_state is not h11.SEND_BODY
            or self.context.terminated.is_set()
        ):
            await super()._maybe_recycle()
            return
        self._is_lingering = True
        await self._close_stream()
        await self.can_read.set()
        await self.send(_EarlyResponseEnd())

    @property
    def has_partial_head(self) -> bool:
        """Whether some bytes of the next request have come, but not all of its head. Copies them."""
        return self.connection.their_state is h11.IDLE and bool(self.connection.trailing_data[0])

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except _RejectedRequestError as refused:
            await self._send_error_response(refused.status, has_body=refused.has_body)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        # An upgrade that cannot be made is ignored (RFC 9110, 7.8).
        if _has_valid_settings(event) and _is_valid_target(event.target):
            await super()._check_protocol(event)

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in {b"1.0", b"1.1"}:
            raise _RejectedRequestError(505, request.method)
        try:
            target = _to_origin_form(request.target)
        except ValueError:
            raise _RejectedRequestError(400, request.method) from None
        self.stream = _create_http_stream(self, STREAM_ID)
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def _send_error_response(self, status_code: int, *, has_body: bool = True) -> None:
        request_id = new_id("req")
        body = ApiError(status_code, _ERROR_TEXTS.get(status_code, _MALFORMED_TEXT)).to_json(
            request_id
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"request-id", request_id.encode()),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if has_body:
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Http2Protocol(H2Protocol):
    """HTTP/2 (RFC 9113).

    In Hypercorn's class writing never waits for a client that does not read, a client causes unlimited work with small
    frames, and the connection has no idle timer after an upgrade or after a stream that the client resets. It ends the
    connection with an exception on CONNECT, on paths that are not ASCII, on data for a stream whose response has ended, and
    on more than a thousand streams. It keeps priorities, which RFC 9113 has removed.
    """

    context: ServerContext

    def __init__(self, *arguments: Any, writer: asyncio.StreamWriter) -> None:
        super().__init__(*arguments)
        # Websockets are not served.
        del self.connection.local_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL]
        self.priority = PriorityTree(maximum_streams=self.config.h2_max_concurrent_streams + 1)
        self._writer = writer
        self._frame_reader = FrameReader()
        self._budget = FrameBudget(asyncio.get_running_loop().time)
        self._is_closing = False

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        await super().initiate(headers, settings)
        await self.send(Updated(idle=self.idle))
        await self.close_if_drained()

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._receive(event.data)
            return
        await super().handle(event)
        # Applications may be waiting for their bytes to be sent.
        for buffer in self.stream_buffers.values():
            await buffer.close()

    async def close_if_drained(self) -> None:
        """Send GOAWAY if no stream is open and no more are wanted: the server is draining, or the client has sent GOAWAY.

        It is not sent earlier: clients built on the h2 library, httpx among them, give up all open streams when they
        receive it, also those that RFC 9113 (6.8) lets continue.
        """
        accepts_streams = not (self.context.draining or self._frame_reader.has_received_goaway)
        # A stream whose application has ended may still have frames to send, END_STREAM at least. None follow GOAWAY.
        if accepts_streams or not self.idle or self.stream_buffers or self.closed:
            return
        await self._send_goaway(h2.errors.ErrorCodes.NO_ERROR)
        if self._frame_reader.has_received_goaway:
            await self.send(Closed())

    async def abort_stream(self, stream_id: int) -> None:
        """End a stream whose client does not read it. The other streams of the connection continue."""
        try:
            has_window = self.connection.local_flow_control_window(stream_id) > 0
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it has ended meanwhile
        if has_window:
            # The client has room for bytes of this stream, and yet they are not sent: it reads nothing at all.
            self._writer.transport.abort()
            return
        await self._drop_stream(stream_id)
        await self._flush()

    async def _receive(self, data: bytes) -> None:
        for batch in self._frame_reader.split_batches(data):
            if self._writer.is_closing():
                return
            if not self._budget.spend(batch.control_frames):
                await self._send_goaway(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self.send(Closed())
                return
            await super().handle(RawData(batch.data))
            await self.close_if_drained()
            # The other connections get their turn.
            await asyncio.sleep(0)

    async def _send_goaway(self, code: h2.errors.ErrorCodes) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.connection.close_connection(code)
            await self._flush()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                await self._receive_body(event)
            elif isinstance(event, h2.events.StreamReset):
                await self._drop_stream(event.stream_id)
            elif not isinstance(event, h2.events.PriorityUpdated):
                await super()._handle_events([event])
            if isinstance(event, h2.events.RequestReceived) and self.idle:
                # Its stream was reset at once, and yet Hypercorn's class has stopped the idle timer.
                await self.send(Updated(idle=True))
        await self._flush()

    async def _receive_body(self, event: h2.events.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        # A response may end before its request does.
        if stream is not None:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
        # The stream may have ended meanwhile.
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def _drop_stream(self, stream_id: int) -> None:
        """Forget a stream that was reset: its application learns that the client has left."""
        buffer = self.stream_buffers.pop(stream_id, None)
        if buffer is not None:
            self.priority.remove_stream(stream_id)
            await buffer.close()
        await self._close_stream(stream_id)
        await self.send(Updated(idle=self.idle))

    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        await self.close_if_drained()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        stream_id = request.stream_id
        headers = dict(request.headers)
        try:
            method = headers[b":method"].decode("ascii").upper()
            # CONNECT has an authority in place of a path, as in HTTP/1.1.
            target = _to_origin_form(headers.get(b":path", headers.get(b":authority", b"*")))
        except ValueError:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return
        stream = self.streams[stream_id] = _create_http_stream(self, stream_id)
        self.stream_buffers[stream_id] = SendBuffer()  # type: ignore[assignment]  # has the methods of Hypercorn's class
        self.priority.insert_stream(stream_id)
        self.priority.block(stream_id)
        abort = partial(self.task_group.spawn, self.abort_stream, stream_id)
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(list(request.headers)),
                http_version="2",
                method=method,
                raw_path=target,
                state=ConnectionState({**self.connection_state, ABORT: abort}),
            )
        )
        self.keep_alive_requests += 1

    async def _send_data(self, stream_id: int) -> None:
        """Send one frame of a stream, if its flow control window has room for it."""
        buffer = self.stream_buffers[stream_id]
        try:
            window = self.connection.local_flow_control_window(stream_id)
            data = await buffer.pop(max(0, min(window, self.connection.max_outbound_frame_size)))
            if data:
                self.connection.send_data(stream_id, data)
                self._budget.earn()
                await self._flush()
            else:
                self.priority.block(stream_id)
            if not buffer.complete or stream_id not in self.stream_buffers:
                return
            self.connection.end_stream(stream_id)
            await self._flush()
        except h2.exceptions.ProtocolError:
            # The stream, or the connection, has ended while it waited to send.
            await buffer.close()
        if self.stream_buffers.pop(stream_id, None) is not None:
            self.priority.remove_stream(stream_id)
            await self.close_if_drained()


def _create_http_stream(protocol: H11Protocol | H2Protocol, stream_id: int) -> HTTPStream:
    """Return the stream of one request, which starts the application when it handles that."""
    return HTTPStream(
        protocol.app,
        protocol.config,
        protocol.context,
        protocol.task_group,
        protocol.ssl,
        protocol.client,
        protocol.server,
        protocol.stream_send,
        stream_id,
    )


def _has_valid_settings(request: h11.Request) -> bool:
    """Whether a request's HTTP2-Settings, if it has any, can be applied (RFC 7540, 3.2.1)."""
    for name, value in request.headers:
        if name.lower() == b"http2-settings":
            scratch = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            try:
                scratch.initiate_upgrade_connection(value)
            except Exception:  # noqa: BLE001 - base64, hyperframe and h2 have errors of their own for it
                return False
    return True


def _is_valid_target(target: bytes) -> bool:
    try:
        _to_origin_form(target)
    except ValueError:
        return False
    return True


def _to_origin_form(target: bytes) -> bytes:
    """Return path and query of a request target, which may be a whole URL (RFC 9112, 3.2). `*` and the authority of CONNECT
    are returned as they are. Raises ValueError.
    """
    text = target.decode("ascii")
    if text.startswith("/") or "://" not in text:
        return target
    parts = urlsplit(text)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.path or '/'}{query}".encode()
