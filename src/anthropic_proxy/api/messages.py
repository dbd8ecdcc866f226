"""Handlers of `POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from collections.abc import Callable, Mapping
from functools import partial

from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.messages_app import Handler
from anthropic_proxy.api.paths import PREFIXES
from anthropic_proxy.api.request import Request
from anthropic_proxy.api.response import Response
from anthropic_proxy.errors import invalid_request
from anthropic_proxy.gateway.gateway import GatewayResponse
from anthropic_proxy.gateway.reloadable import ReloadableGateway
from anthropic_proxy.gateway.streams.message_stream import EventBatch
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.wire.anthropic.request import (
    RequestBody,
    parse_count_tokens_body,
    parse_messages_body,
)
from anthropic_proxy.wire.json_codec import has_more_values
from anthropic_proxy.wire.sse import encode_batch

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # Otherwise nginx buffers the events.
    "x-accel-buffering": "no",
}


class MessagesEndpoints:
    """Handlers of both endpoints, which use the current configuration."""

    def __init__(
        self, gateway: ReloadableGateway, access: AccessControl, log: Log, max_values: int
    ) -> None:
        """Create the handlers. max_values: maximum number of JSON values in a request body."""
        self._gateway = gateway
        self._access = access
        self._log = log
        self._max_values = max_values

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Handlers by path. They ignore the query (`?beta=true`)."""
        handlers: dict[str, Handler] = {}
        for prefix in PREFIXES:
            handlers[f"{prefix}/messages"] = self.create_message
            handlers[f"{prefix}/messages/count_tokens"] = self.count_tokens
        return handlers

    async def create_message(self, request: Request) -> Response:
        """Return a Message or a stream of events. Raises ApiError and InvalidRequestError."""
        body = self._parse_request("chat", parse_messages_body, request)
        await self._access.admit(request)
        gateway = self._gateway.current
        if not body.request.get("stream"):
            message = await gateway.create_message(body, request.caller, request.observation)
            return self._to_json_response(message, request)
        stream = await gateway.open_stream(body, request.caller, request.observation)
        headers = {**_STREAM_HEADERS, **stream.headers}
        encode = encode_batch
        if self._log.verbose:
            encode = partial(self._encode_events, request.id)
        return Response(stream.status, headers, stream.content, encode)

    async def count_tokens(self, request: Request) -> Response:
        """Return the number of input tokens. Raises ApiError and InvalidRequestError."""
        body = self._parse_request("count_tokens", parse_count_tokens_body, request)
        response = await self._gateway.current.count_tokens(
            body, request.caller, request.observation
        )
        return self._to_json_response(response, request)

    def _parse_request(
        self, operation: str, parse: Callable[[bytes, str], RequestBody], request: Request
    ) -> RequestBody:
        """Return the validated body. Raises ApiError and InvalidRequestError."""
        request.observation.operation = operation
        raw_body = request.take_body()
        self._log.log_body("request received", request.id, raw_body)
        self._check_value_count(raw_body)
        body = parse(raw_body, request.caller.headers.get("anthropic-version", ""))
        model = body.request["model"]
        request.key.check_model(model, self._gateway.current.list_model_names(model))
        return body

    def _check_value_count(self, raw_body: bytes) -> None:
        """Raise ApiError (400) for a body whose parsed form would use too much memory."""
        if has_more_values(raw_body, self._max_values):
            raise invalid_request(
                f"The request body contains more than {self._max_values} JSON values, "
                "the limit of this server (MAX_JSON_VALUES). Send a request with fewer values"
            )

    def _encode_events(self, request_id: str, batch: EventBatch) -> bytes:
        """Encode events and log them (only with --verbose)."""
        data = encode_batch(batch)
        self._log.log_body("events sent", request_id, data)
        return data

    def _to_json_response(self, response: GatewayResponse[bytes], request: Request) -> Response:
        self._log.log_body("response sent", request.id, response.content)
        headers = {"content-type": "application/json", **response.headers}
        return Response(response.status, headers, response.content)
