"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from anthropic_proxy.api.auth import Access
from anthropic_proxy.api.messages_app import Endpoint
from anthropic_proxy.api.request import Request
from anthropic_proxy.api.response import Response
from anthropic_proxy.errors import invalid_request
from anthropic_proxy.gateway.gateway import Answer, Generations
from anthropic_proxy.gateway.streams.deferred import Events, PendingStream
from anthropic_proxy.gateway.streams.passthrough import PassedStream
from anthropic_proxy.gateway.streams.translated import AnswerStream
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.wire.anthropic.request import Body, count_tokens_body, messages_body
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.json_values import has_more_values
from anthropic_proxy.wire.sse import encode

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would collect the events otherwise.
    "x-accel-buffering": "no",
}

# Clients whose base URL ends in /v1 ask for the second form.
PREFIXES = ("/v1", "/v1/v1")

_Stream = AnswerStream | PassedStream | PendingStream


class Messages:
    """Both, by the configuration that is in force."""

    def __init__(self, gateways: Generations, access: Access, log: Log, most_values: int) -> None:
        """most_values: JSON values that a request's body may hold."""
        self._gateways = gateways
        self._access = access
        self._log = log
        self._most_values = most_values

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """By their paths; the query (`?beta=true`) does not matter to them."""
        paths: dict[str, Endpoint] = {
            "messages": self.create,
            "messages/count_tokens": self.count_tokens,
        }
        return {
            f"{prefix}/{path}": endpoint for prefix in PREFIXES for path, endpoint in paths.items()
        }

    async def create(self, request: Request) -> Response:
        """Answer a conversation. Raises ApiError and InvalidRequestError."""
        body = self._asked("chat", messages_body, request)
        await self._access.admit(request)
        answer = await self._gateways.current.create(body, request.client, request.observation)
        headers = {**_STREAM_HEADERS, **answer.headers}
        if isinstance(answer.content, list):
            return Response(answer.status, headers, self._written(request.id, answer.content))
        if isinstance(answer.content, _Stream):
            return Response(
                answer.status, headers, answer.content, partial(self._written, request.id)
            )
        return self._whole(answer.content, answer, request)

    async def count_tokens(self, request: Request) -> Response:
        """Count a conversation's tokens. Raises ApiError and InvalidRequestError."""
        body = self._asked("count_tokens", count_tokens_body, request)
        answer = await self._gateways.current.count_tokens(
            body, request.client, request.observation
        )
        return self._whole(cast("JsonObject | bytes", answer.content), answer, request)

    def _asked(
        self, operation: str, parsed: Callable[[bytes, str], Body], request: Request
    ) -> Body:
        """What is asked for, which the key allows."""
        request.observation.operation = operation
        raw = request.take_body()
        self._log.body("client request", request.id, raw)
        self._refuse_many_values(raw)
        body = parsed(raw, request.client.headers.get("anthropic-version", ""))
        request.key.check(body.request["model"])
        return body

    def _refuse_many_values(self, raw: bytes) -> None:
        """Raise ApiError (400) before a body is parsed that would take much more memory than its bytes."""
        if has_more_values(raw, self._most_values):
            raise invalid_request(
                f"The request body holds more than {self._most_values} JSON values, the limit of this server "
                "(MAX_JSON_VALUES). Send fewer or larger parts"
            )

    def _written(self, request_id: str, received: Events) -> bytes:
        """Events as bytes: one write for each read of the upstream."""
        written = received if isinstance(received, bytes) else b"".join(map(encode, received))
        self._log.body("client events", request_id, written)
        return written

    def _whole(self, content: JsonObject | bytes, answer: Answer, request: Request) -> Response:
        body = content if isinstance(content, bytes) else dumps(content)
        self._log.body("client answer", request.id, body)
        return Response(answer.status, {"content-type": "application/json", **answer.headers}, body)
