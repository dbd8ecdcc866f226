"""ASGI middleware that counts, limits and ends open requests.

It ends requests when the server stops, and when their clients stop reading. The application
receives `http.disconnect`, as if the client had disconnected, and releases its resources. The
client receives an error response or, in a stream, an error event. Handlers and streams therefore
need no code for this case. The cost for each event is two assignments.
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

# Seconds to wait for the delivery of the final error events.
_FINAL_EVENT_SECONDS = 5


class InFlightRequests:
    """Open requests of one application."""

    def __init__(
        self,
        app: AsgiApplication,
        *,
        max_requests: int | None = None,
        write_seconds: float = math.inf,
        uncounted: Iterable[str] = (),
    ) -> None:
        """Wrap `app`.

        max_requests: maximum number of concurrent requests (None: no limit). write_seconds: time
        limit of one write to a client that does not read. uncounted: paths that are exempt from
        the limit and from the drain.
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
            await self._serve_uncounted(_InFlightRequest(scope, receive, send), scope)
        else:
            request = _InFlightRequest(scope, receive, send, lambda: self.is_draining)
            await self._serve(request, scope)

    async def _serve(self, request: "_InFlightRequest", scope: Scope) -> None:
        if self._is_ended:
            request.end(server_stopping_error())
        elif len(self._requests) >= self._max_requests:
            request.end(_too_many_requests_error())
        if request.is_ended:
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
        """Wait until no request is open; after `seconds`, end open requests with an error.

        A cancellation ends the wait early.
        """
        self.is_draining = True
        is_idle = False
        try:
            is_idle = await self._wait_until_idle(seconds)
        finally:
            if not is_idle:
                self.end_all()
                await self._wait_until_idle(_FINAL_EVENT_SECONDS)

    def end_all(self) -> None:
        """End all open and later requests with the error that the server is stopping."""
        self._is_ended = True
        for request in self._requests:
            request.end(server_stopping_error())

    async def watch(self) -> None:
        """End requests whose clients do not read their responses. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        while self._write_seconds < math.inf:
            await asyncio.sleep(self._write_seconds / 4)
            deadline = loop.time() - self._write_seconds
            for request in (*self._requests, *self._uncounted_requests):
                if request.sending_since < deadline:
                    request.abandon()

    async def _wait_until_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True


class _InFlightRequest:
    """One open request, with wrappers of its ASGI `receive` and `send`."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        closes_connection: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wrap a request. closes_connection: returns whether to close the connection afterwards."""
        # Loop time at which the current `send` began; infinite between calls.
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
        """Return the next message of the client, or a disconnect after the end of the request."""
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
        """Send a message from the application to the client."""
        if message["type"] == "http.response.start":
            self._response_start = message
            if self._closes_connection() and self._scope["http_version"].startswith("1"):
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        elif not message.get("more_body"):
            self._is_complete = True
        self.sending_since = self._loop.time()
        await self._send(message)
        self.sending_since = math.inf

    @property
    def is_ended(self) -> bool:
        return self._error is not None

    def end(self, error: ApiError) -> None:
        """End the request with an error, which `send_error` sends later."""
        if self._error is None:
            self._error = error
            self._observation.record_failure(error.type, error.message, "error")
            self._receiving.interrupt()

    def abandon(self) -> None:
        """End the request of a client that does not read its response.

        Close its connection, or reset its HTTP/2 stream: it would not read an error either.
        """
        self.end(ApiError(408, "The client did not read the response within WRITE_TIMEOUT"))
        abort = self._scope["state"].get(ABORT)
        if abort is not None:
            abort()

    async def send_error(self) -> None:
        """Send the error that ended the request, unless there is none or it is too late."""
        if self._error is None or self._is_complete or self.sending_since < math.inf:
            return
        if self._response_start is None:
            await self._send_error_response(self._error)
        elif _is_stream(self._response_start):
            event = encode_event(self._error.body(self._observation.request_id))
            await self._send({"type": "http.response.body", "body": event, "more_body": False})

    async def _send_error_response(self, error: ApiError) -> None:
        headers = {"content-type": "application/json", **error.headers}
        raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        body = error.to_json(self._observation.request_id)
        await self.send(
            {"type": "http.response.start", "status": error.status, "headers": raw_headers}
        )
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _too_many_requests_error() -> ApiError:
    message = "The server is at its limit of concurrent requests. Retry in 1 s"
    return ApiError(529, message, {"retry-after": "1"})


def _is_stream(response_start: Message) -> bool:
    for name, value in response_start["headers"]:
        if name.lower() == b"content-type" and b"event-stream" in value:
            return True
    return False
