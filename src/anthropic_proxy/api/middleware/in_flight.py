"""Requests that are open: counted, limited, and ended where they must end before their time. An ASGI middleware.

To the application a request that is ended looks as if its client had left, so it gives back all that it holds. Its client
is told the reason: as an error, or as the last event of its stream. That way neither the handlers nor the streams know of
it, and an event costs two assignments.
"""

import asyncio
import math
from collections.abc import Callable, Iterable

from anthropic_proxy.api.asgi import (
    ABORT,
    OBSERVATION,
    AsgiApplication,
    Message,
    Receive,
    Scope,
    Send,
)
from anthropic_proxy.errors import ApiError, server_stopping_error
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.upstream.interruption import Interruption
from anthropic_proxy.wire.sse import encode_event

# Seconds for the last events to reach their clients.
_FINAL_EVENT_SECONDS = 5


class InFlightRequests:
    """The open requests of one application."""

    def __init__(
        self,
        app: AsgiApplication,
        *,
        max_requests: int | None = None,
        write_seconds: float = math.inf,
        uncounted: Iterable[str] = (),
    ) -> None:
        """Wrap `app`.

        max_requests: limit of counted requests at a time (None: no limit). write_seconds: how long a client may read no
        bytes. uncounted: paths that are always served, and that a drain does not wait for.
        """
        self._app = app
        self._max_requests = math.inf if max_requests is None else max_requests
        self._write_seconds = write_seconds
        self._uncounted = frozenset(uncounted)
        self._requests: set[_InFlightRequest] = set()
        self._uncounted_requests: set[_InFlightRequest] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.is_draining = False
        self._is_ended = False

    def __len__(self) -> int:
        return len(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in self._uncounted:
            await self._serve_uncounted(
                _InFlightRequest(scope, receive, send, closes_connection=lambda: False), scope
            )
        else:
            await self._serve(
                _InFlightRequest(scope, receive, send, closes_connection=self._closes_connections),
                scope,
            )

    async def _serve(self, request: "_InFlightRequest", scope: Scope) -> None:
        if self._is_ended or len(self._requests) >= self._max_requests:
            request.end(server_stopping_error() if self._is_ended else _too_many_requests())
            await request.send_error()
            return
        self._requests.add(request)
        self._is_idle.clear()
        try:
            await self._app(scope, request.receive, request.send)
            await request.send_error()
        finally:
            self._requests.discard(request)
            if not self._requests:
                self._is_idle.set()

    async def _serve_uncounted(self, request: "_InFlightRequest", scope: Scope) -> None:
        self._uncounted_requests.add(request)
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            self._uncounted_requests.discard(request)

    async def drain(self, seconds: float) -> None:
        """Wait until no request is open, `seconds` at most, or until cancelled; then send an error to those that are left,
        and end them.
        """
        self.is_draining = True
        try:
            has_ended = await self._wait_until_idle(seconds)
        except asyncio.CancelledError:
            await self._end_rest()
            raise
        if not has_ended:
            await self._end_rest()

    async def _end_rest(self) -> None:
        self.end_all()
        await self._wait_until_idle(_FINAL_EVENT_SECONDS)

    def end_all(self) -> None:
        """End all requests, and those to come, with an error that says that the server stops."""
        self._is_ended = True
        for request in self._requests:
            request.end(server_stopping_error())

    async def watch(self) -> None:
        """End the requests whose clients take nothing. Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while self._write_seconds < math.inf:
            await asyncio.sleep(self._write_seconds / 4)
            latest = loop.time() - self._write_seconds
            for request in (*self._requests, *self._uncounted_requests):
                if request.sending_since < latest:
                    request.abandon()

    async def _wait_until_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    def _closes_connections(self) -> bool:
        return self.is_draining


class _InFlightRequest:
    """One request: what the application receives and sends passes here."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, closes_connection: Callable[[], bool]
    ) -> None:
        """closes_connection: returns whether the connection must be closed after the response."""
        self.sending_since = math.inf
        self._scope = scope
        self._observation: Observation = scope["state"][OBSERVATION]
        self._receive = receive
        self._send = send
        self._closes_connection = closes_connection
        self._loop = asyncio.get_running_loop()
        self._receiving = Interruption()
        self._error: ApiError | None = None
        self._response_start: Message | None = None
        self._is_complete = False

    async def receive(self) -> Message:
        """The next message of the client's; that it has left, when the request is ended."""
        if self._error is not None:
            return {"type": "http.disconnect"}
        self._receiving.begin()
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if self._receiving.absorb():
                return {"type": "http.disconnect"}
            raise
        finally:
            self._receiving.end()

    async def send(self, message: Message) -> None:
        """Send a message of the application's."""
        if message["type"] == "http.response.start":
            self._response_start = message
            if self._closes_connection() and self._scope["http_version"].startswith("1"):
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        elif not message.get("more_body"):
            self._is_complete = True
        self.sending_since = self._loop.time()
        await self._send(message)
        self.sending_since = math.inf

    def end(self, error: ApiError) -> None:
        """End the request with an error, which `send_error` sends to the client."""
        if self._error is None:
            self._error = error
            self._observation.record_failure(error.type, error.message, "error")
            self._receiving.interrupt()

    def abandon(self) -> None:
        """End the request of a client that does not read its response, which cannot receive an error either: its connection
        is closed, or its HTTP/2 stream reset.
        """
        self.end(ApiError(408, "The client read nothing of the answer for too long"))
        abort = self._scope["state"].get(ABORT)
        if abort is not None:
            abort()

    async def send_error(self) -> None:
        """Send the client the error that ended its request, if there is one and it can still be sent."""
        if self._error is None or self._is_complete or self.sending_since < math.inf:
            return
        if self._response_start is None:
            await self._send_error_response(self._error)
        elif _is_stream(self._response_start):
            error_event = encode_event(self._error.body(self._observation.request_id))
            await self._send(
                {"type": "http.response.body", "body": error_event, "more_body": False}
            )

    async def _send_error_response(self, error: ApiError) -> None:
        headers = {"content-type": "application/json", **error.headers}
        raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send(
            {"type": "http.response.start", "status": error.status, "headers": raw_headers}
        )
        body = error.to_json(self._observation.request_id)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _too_many_requests() -> ApiError:
    message = "This server has as many requests as it may take at a time; try again in a moment"
    return ApiError(529, message, {"retry-after": "1"})


def _is_stream(response_start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and b"event-stream" in value
        for name, value in response_start["headers"]
    )
