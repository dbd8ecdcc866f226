"""Hypercorn's protocol class for HTTP/1.0 and HTTP/1.1, with corrections.

`hypercorn_connection` describes the dependency on the version of Hypercorn.
"""

import h2.config
import h2.connection
import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.server.http_streams import create_http_stream, to_origin_form

_ERROR_TEXTS = {
    431: "The request headers exceed the limit of the server (MAX_HEADER_BYTES).",
    501: "The transfer encoding of the request is not supported.",
    505: "The HTTP version of the request is not supported. Use HTTP/1.1 or HTTP/2.",
}
_MALFORMED_TEXT = "The HTTP request is malformed."


class EarlyResponseEnd(Event):
    """The response is complete, but the client still sends the body of its request."""


class _RejectedRequestError(Exception):
    """A request to which the server sends an error response before it closes the connection."""

    def __init__(self, status: int, method: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.has_body = method.upper() != b"HEAD"


class Http1Protocol(H11Protocol):
    """HTTP/1.0 and HTTP/1.1.

    Corrected defects of Hypercorn's class: it accepts any HTTP version, starts websockets, fails on
    malformed settings of an upgrade to HTTP/2, forwards invalid request targets, sends errors
    without a body, and resets the connection if the client still sends after the response.
    """

    _is_lingering = False

    async def handle(self, event: Event) -> None:
        if not (self._is_lingering and isinstance(event, RawData)):
            await super().handle(event)

    async def _maybe_recycle(self) -> None:
        is_response_complete = self.connection.our_state in {h11.DONE, h11.MUST_CLOSE}
        is_client_sending = self.connection.their_state is h11.SEND_BODY
        is_server_closing = self.context.terminated.is_set()
        if is_response_complete and is_client_sending and not is_server_closing:
            self._is_lingering = True
            await self._close_stream()
            await self.can_read.set()
            await self.send(EarlyResponseEnd())
        else:
            await super()._maybe_recycle()

    @property
    def has_partial_head(self) -> bool:
        """True if a part of the head of the next request has arrived."""
        # `trailing_data` copies the bytes.
        return self.connection.their_state is h11.IDLE and bool(self.connection.trailing_data[0])

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except _RejectedRequestError as rejection:
            await self._send_error_response(rejection.status, has_body=rejection.has_body)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        # Ignore an upgrade that is not possible (RFC 9110, 7.8).
        if _has_valid_settings(event) and _is_valid_target(event.target):
            await super()._check_protocol(event)

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in {b"1.0", b"1.1"}:
            raise _RejectedRequestError(505, request.method)
        try:
            target = to_origin_form(request.target)
        except ValueError:
            raise _RejectedRequestError(400, request.method) from None
        self.stream = create_http_stream(self, STREAM_ID)
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
        error = ApiError(status_code, _ERROR_TEXTS.get(status_code, _MALFORMED_TEXT))
        body = error.to_json(request_id)
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


def _has_valid_settings(request: h11.Request) -> bool:
    """Return whether the header HTTP2-Settings, if present, is valid (RFC 7540, 3.2.1)."""
    for name, value in request.headers:
        if name.lower() == b"http2-settings":
            scratch = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            try:
                scratch.initiate_upgrade_connection(value)
            except Exception:  # noqa: BLE001 - errors of base64, hyperframe and h2
                return False
    return True


def _is_valid_target(target: bytes) -> bool:
    try:
        to_origin_form(target)
    except ValueError:
        return False
    return True
