"""Observe requests from the first byte to the last byte of the response: an ASGI middleware.

The other parts add their facts to the observation, which is in the scope of the request.
"""

import re
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence

from anthropic_proxy.api.asgi import OBSERVATION, AsgiApplication, Message, Receive, Scope, Send
from anthropic_proxy.errors.redaction import mask_path
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.observability.logs import Log, hide_in_current_task
from anthropic_proxy.observability.observation import (
    Observation,
    ObservationSink,
    new_span_id,
    new_trace,
)
from anthropic_proxy.observability.trace_context import TRACEPARENT, TRACESTATE, parse_trace_headers

# The id that a client or a reverse proxy may give to its request. Logs and headers repeat it.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_HEADERS = (b"x-request-id", b"request-id")
# Headers in which clients send credentials.
_CREDENTIAL_HEADERS = frozenset(
    {b"x-api-key", b"api-key", b"authorization", b"proxy-authorization"}
)
# RFC 9110, 9.3, and RFC 5789. Clients can invent others, which OpenTelemetry calls `_OTHER`.
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_OTHER_METHOD = "_OTHER"
_TRACE_HEADERS = (TRACEPARENT.encode(), TRACESTATE.encode())

# Responses are for one client, and browsers must neither show them nor guess their types.
_DEFAULT_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class ObservationMiddleware:
    """Reports each request of `app` to `sinks`.

    Every response gets the header `request-id`, and the default headers that it lacks.
    """

    def __init__(self, app: AsgiApplication, sinks: Sequence[ObservationSink], log: Log) -> None:
        """log: redacts keys that a client wrote into a path, a request id or a model's name."""
        self._app = app
        self._sinks = sinks
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observation = _create_observation(scope, self._log)
        scope["state"] = {**scope.get("state", {}), OBSERVATION: observation}
        observed = _ObservedRequest(observation, receive, send)
        for sink in self._sinks:
            sink.request_started(observation)
        try:
            await self._app(scope, observed.receive, observed.send)
        finally:
            observed.finish()
            _redact_observation(observation, self._log)
            for sink in self._sinks:
                sink.request_finished(observation)


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
            message["headers"] = self._add_headers(message["headers"])
        elif not message.get("more_body"):
            self._is_complete = True
        # No coroutine of its own: this is called for every event.
        return self._send(message)

    def _add_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        present = dict(headers)
        defaults = [pair for pair in _DEFAULT_HEADERS if pair[0] not in present]
        return [*headers, *defaults, (b"request-id", self._observation.request_id.encode())]

    def finish(self) -> None:
        observation = self._observation
        observation.ended_at = time.perf_counter()
        if not self._is_complete and observation.outcome == "complete":
            observation.outcome = "client_closed"


def _create_observation(scope: Scope, log: Log) -> Observation:
    credentials = frozenset(_credentials(scope))
    hide_in_current_task(credentials)
    trace_headers = []
    for raw_name, value in scope["headers"]:
        name = raw_name.lower()
        if name in _TRACE_HEADERS:
            trace_headers.append((name.decode(), value.decode("latin-1")))
    parent = parse_trace_headers(trace_headers)
    trace = parent.child(new_span_id()) if parent else new_trace()
    method = scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD
    path = mask_path(scope["path"], lambda text: text in credentials or log.is_api_key(text))
    return Observation(method, path, _select_request_id(scope, log), scope["scheme"], trace, parent)


def _credentials(scope: Scope) -> Iterator[str]:
    """Yield the credentials that a request came with, without the names of their schemes."""
    for name, value in scope["headers"]:
        if name.lower() in _CREDENTIAL_HEADERS:
            yield from value.decode("latin-1").split()[-1:]


def _select_request_id(scope: Scope, log: Log) -> str:
    """Return the id that the client gave to its request, unless it is a secret; else a new one."""
    for name, value in scope["headers"]:
        if name.lower() in _REQUEST_ID_HEADERS and _REQUEST_ID.fullmatch(value):
            request_id: str = value.decode()
            if log.redact(request_id) == request_id:
                return request_id
            break
    return new_id("req")


def _redact_observation(observation: Observation, log: Log) -> None:
    """Remove secrets from the texts of a finished request, before sinks see them."""
    observation.model = _redact_text(observation.model, log)
    observation.upstream_model = _redact_text(observation.upstream_model, log)
    observation.message = _redact_text(observation.message, log)
    observation.stop_reason = _redact_text(observation.stop_reason, log)
    for upstream_request in observation.upstream_requests:
        upstream_request.model = _redact_text(upstream_request.model, log)


def _redact_text(text: str | None, log: Log) -> str | None:
    # Upstreams may send other types than texts.
    return log.redact(text) if isinstance(text, str) else text
