"""Requests from their first byte to the last of their answers, observed from outside: an ASGI middleware.

What only the inside knows, it writes into the observation that travels with the request.
"""

import re
import time
from collections.abc import Awaitable, Iterable, Sequence

from anthropic_proxy.ids import new_id
from anthropic_proxy.observe.observation import Observation, Sink, new_span_id, new_trace
from anthropic_proxy.observe.trace_context import TRACEPARENT, TRACESTATE, received
from anthropic_proxy.server.asgi import OBSERVATION, AsgiApplication, Message, Receive, Scope, Send

# What a client or a reverse proxy may call its request, and where. It is written into logs and headers.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_HEADERS = (b"x-request-id", b"request-id")
_TRACE_HEADERS = (TRACEPARENT.encode(), TRACESTATE.encode())

# Answers are for one client alone, and nothing for a browser to show or to guess the type of.
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class Observed:
    """Tells `sinks` of each request of `app`. Every answer gets the header `request-id`, and those for browsers where it
    has none of its own.
    """

    def __init__(self, app: AsgiApplication, sinks: Sequence[Sink]) -> None:
        self._app = app
        self._sinks = sinks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observation = _observation(scope)
        scope["state"] = {**scope.get("state", {}), OBSERVATION: observation}
        observed = _ObservedRequest(observation, receive, send)
        for sink in self._sinks:
            sink.began(observation)
        try:
            await self._app(scope, observed.receive, observed.send)
        finally:
            observed.ended()
            for sink in self._sinks:
                sink.finished(observation)


class _ObservedRequest:
    def __init__(self, observation: Observation, receive: Receive, send: Send) -> None:
        self._observation = observation
        self._receive = receive
        self._send = send
        self._is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._is_complete:
            self._observation.outcome = "client_closed"
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._observation.status = message["status"]
            message["headers"] = self._with_ours(message["headers"])
        elif not message.get("more_body"):
            self._is_complete = True
        # No coroutine of its own: this is called for every event.
        return self._send(message)

    def _with_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = dict(headers)
        ours = [pair for pair in _HEADERS if pair[0] not in given]
        return [*headers, *ours, (b"request-id", self._observation.request_id.encode())]

    def ended(self) -> None:
        observation = self._observation
        observation.ended = time.perf_counter()
        if not self._is_complete and observation.outcome == "complete":
            observation.outcome = "client_closed"


def _observation(scope: Scope) -> Observation:
    told = ((name.lower(), value) for name, value in scope["headers"])
    parent = received((name.decode(), value.decode("latin-1")) for name, value in told if name in _TRACE_HEADERS)
    trace = parent.child(new_span_id()) if parent else new_trace()
    return Observation(scope["method"], scope["path"], _request_id(scope), scope["scheme"], trace, parent)


def _request_id(scope: Scope) -> str:
    given = (value for name, value in scope["headers"] if name.lower() in _REQUEST_ID_HEADERS)
    valid = next((value for value in given if _REQUEST_ID.fullmatch(value)), None)
    return valid.decode() if valid else new_id("req")
