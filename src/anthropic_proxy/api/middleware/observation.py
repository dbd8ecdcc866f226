"""ASGI middleware that creates the observation of each request and passes it to the sinks.

Other parts add data to the observation, which is in the scope of the request.
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

# Request id from the client or a reverse proxy. It is copied to logs and response headers.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_HEADERS = (b"x-request-id", b"request-id")
# Request headers with credentials.
_CREDENTIAL_HEADERS = frozenset(
    {b"x-api-key", b"api-key", b"authorization", b"proxy-authorization"}
)
# Methods of RFC 9110, 9.3, and RFC 5789. OpenTelemetry reports all others as `_OTHER`.
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_OTHER_METHOD = "_OTHER"
_TRACE_HEADERS = (TRACEPARENT.encode(), TRACESTATE.encode())

# Responses must not be cached, rendered by browsers, or interpreted as another type.
_DEFAULT_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class ObservationMiddleware:
    """Report each request of `app` to `sinks`.

    Also add the header `request-id`, and the default headers that a response does not have.
    """

    def __init__(self, app: AsgiApplication, sinks: Sequence[ObservationSink], log: Log) -> None:
        """Wrap `app`. log: redacts keys in paths, request ids and model names from clients."""
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
        # Not a coroutine, for speed: called for each event.
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
    """Yield the credentials of a request, without the names of their schemes (`Bearer`)."""
    for name, value in scope["headers"]:
        if name.lower() in _CREDENTIAL_HEADERS:
            yield from value.decode("latin-1").split()[-1:]


def _select_request_id(scope: Scope, log: Log) -> str:
    """Return the request id from the client if it is valid and not a secret, else a new id."""
    for name, value in scope["headers"]:
        if name.lower() in _REQUEST_ID_HEADERS and _REQUEST_ID.fullmatch(value):
            request_id: str = value.decode()
            if log.redact(request_id) == request_id:
                return request_id
            break
    return new_id("req")


def _redact_observation(observation: Observation, log: Log) -> None:
    """Redact secrets in a finished request before the sinks receive it."""
    observation.model = _redact_text(observation.model, log)
    observation.upstream_model = _redact_text(observation.upstream_model, log)
    observation.message = _redact_text(observation.message, log)
    observation.stop_reason = _redact_text(observation.stop_reason, log)
    for upstream_request in observation.upstream_requests:
        upstream_request.model = _redact_text(upstream_request.model, log)


def _redact_text(text: str | None, log: Log) -> str | None:
    # Upstreams may send other types than strings.
    return log.redact(text) if isinstance(text, str) else text
