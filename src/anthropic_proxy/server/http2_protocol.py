"""Hypercorn's protocol class for HTTP/2, with corrections.

`hypercorn_connection` describes the dependency on the version of Hypercorn.
"""

import asyncio
import contextlib
from functools import partial
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Request
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import filter_pseudo_headers
from priority.priority import PriorityTree

from anthropic_proxy.api.asgi import ABORT
from anthropic_proxy.server.http2_frames import FrameBudget, FrameReader, SendBuffer
from anthropic_proxy.server.http_streams import ServerContext, create_http_stream, to_origin_form


class Http2Protocol(H2Protocol):
    """HTTP/2 (RFC 9113).

    Corrected defects of Hypercorn's class:

    - Writers never wait for a client that does not read.
    - A client can cause unlimited work with small frames.
    - The idle timer stops after an upgrade, and after a stream that the client resets.
    - An exception closes the connection: on CONNECT, on paths that are not ASCII, on data for a
      stream whose response has ended, and on more than a thousand streams.
    - It supports priorities, which RFC 9113 has deprecated.
    """

    context: ServerContext

    def __init__(self, *arguments: Any, writer: asyncio.StreamWriter) -> None:
        super().__init__(*arguments)
        # Websockets are not supported.
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
        # Wake applications that wait until their bytes are sent.
        for buffer in self.stream_buffers.values():
            await buffer.close()

    async def close_if_drained(self) -> None:
        """Send GOAWAY if no stream is open and no more may begin.

        This is the case when the server is draining, or when the client has sent GOAWAY. It is not
        sent earlier: clients with the h2 library, such as httpx, drop all open streams when they
        receive GOAWAY, although RFC 9113 (6.8) requires that open streams continue.
        """
        is_ending = self.context.draining or self._frame_reader.has_received_goaway
        # After the application has ended, a stream still has frames to send, at least END_STREAM,
        # which must precede GOAWAY.
        has_open_streams = not self.idle or bool(self.stream_buffers)
        if not is_ending or has_open_streams or self.closed:
            return
        await self._send_goaway(h2.errors.ErrorCodes.NO_ERROR)
        if self._frame_reader.has_received_goaway:
            await self.send(Closed())

    async def abort_stream(self, stream_id: int) -> None:
        """Reset a stream that the client does not read. Other streams continue."""
        try:
            has_window = self.connection.local_flow_control_window(stream_id) > 0
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # the stream has ended in the meantime
        if has_window:
            # The window has room but the connection does not accept bytes: the client does not read
            # from the connection at all.
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
            # Let other connections run.
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
                # The stream was reset at once, after Hypercorn's class stopped the idle timer.
                await self.send(Updated(idle=True))
        await self._flush()

    async def _receive_body(self, event: h2.events.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        # A response may end before the body of its request.
        if stream is not None:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
        # The stream may have ended in the meantime.
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def _drop_stream(self, stream_id: int) -> None:
        """Remove a stream that was reset, and send a disconnect to its application."""
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
            # CONNECT has an authority instead of a path, as in HTTP/1.1.
            target = to_origin_form(headers.get(b":path", headers.get(b":authority", b"*")))
        except ValueError:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return
        stream = self.streams[stream_id] = create_http_stream(self, stream_id)
        # SendBuffer has the same methods as Hypercorn's class.
        self.stream_buffers[stream_id] = SendBuffer()  # type: ignore[assignment]
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
        """Send one DATA frame of a stream if its flow control window has room."""
        buffer = self.stream_buffers[stream_id]
        try:
            window = self.connection.local_flow_control_window(stream_id)
            max_length = min(window, self.connection.max_outbound_frame_size)
            data = await buffer.pop(max(max_length, 0))
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
            # The stream or the connection has ended in the meantime.
            await buffer.close()
        if self.stream_buffers.pop(stream_id, None) is not None:
            self.priority.remove_stream(stream_id)
            await self.close_if_drained()
