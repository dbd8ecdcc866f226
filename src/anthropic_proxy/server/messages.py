"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from quart import Blueprint, Response, g, request

from anthropic_proxy.answer_stream import AnswerStream
from anthropic_proxy.client import Client
from anthropic_proxy.client_keys import EVERYTHING, ClientKey
from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.gateway import Answer, Generations
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.passed_stream import PassedStream
from anthropic_proxy.pending_stream import Events, PendingStream
from anthropic_proxy.wire.anthropic import Body, count_tokens_body, messages_body
from anthropic_proxy.wire.codec import JsonObject, dumps
from anthropic_proxy.wire.sse import encode

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would collect the events otherwise.
    "x-accel-buffering": "no",
}

# Clients whose base URL ends in /v1 ask for the second form.
PREFIXES = ("/v1", "/v1/v1")


def routes(gateways: Generations, log: Log, body_seconds: float, admit: Callable[[], Awaitable[None]]) -> Blueprint:
    """The routes of the Messages API; the query (`?beta=true`) does not matter to them. admit: called before a message is
    asked for.
    """
    blueprint = Blueprint("messages", __name__)

    async def create() -> Response:
        body = await _asked("chat", messages_body, log, body_seconds)
        await admit()
        answer = await gateways.current.create(body, client(), g.observation)
        if isinstance(answer.content, list):
            return _events(b"".join(map(encode, answer.content)), answer, log)
        if isinstance(answer.content, AnswerStream | PassedStream | PendingStream):
            headers = {**_STREAM_HEADERS, **answer.headers}
            return Response(EventBytes(answer.content, g.request_id, log), answer.status, headers)
        return _whole(answer.content, answer, log)

    async def count_tokens() -> Response:
        body = await _asked("count_tokens", count_tokens_body, log, body_seconds)
        answer = await gateways.current.count_tokens(body, client(), g.observation)
        return _whole(cast("JsonObject | bytes", answer.content), answer, log)

    for prefix in PREFIXES:
        blueprint.add_url_rule(f"{prefix}/messages", f"{prefix}/create", create, methods=["POST"])
        blueprint.add_url_rule(f"{prefix}/messages/count_tokens", f"{prefix}/count", count_tokens, methods=["POST"])
    return blueprint


async def _asked(operation: str, parsed: Callable[[bytes, str], Body], log: Log, body_seconds: float) -> Body:
    """The request, which its key allows. Raises ApiError and InvalidRequestError."""
    g.observation.operation = operation
    raw = await _body(body_seconds)
    log.body("client request", g.request_id, raw)
    body = parsed(raw, _version())
    client_key().check(body.request["model"])
    return body


def _events(written: bytes, answer: Answer, log: Log) -> Response:
    log.body("client events", g.request_id, written)
    return Response(written, 200, {**_STREAM_HEADERS, **answer.headers})


def _whole(content: JsonObject | bytes, answer: Answer, log: Log) -> Response:
    body = content if isinstance(content, bytes) else dumps(content)
    log.body("client answer", g.request_id, body)
    return Response(body, answer.status, {"content-type": "application/json", **answer.headers})


def _version() -> str:
    return str(request.headers.get("anthropic-version", ""))


def client_key() -> ClientKey:
    """The key of the request that is being answered."""
    key: ClientKey = g.get("client_key", EVERYTHING)
    return key


def client() -> Client:
    """Who sends the request that is being answered."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        # RFC 9110, 5.3: several lines are one list.
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    return Client(headers, request.query_string.decode("ascii", "replace"))


async def _body(seconds: float) -> bytes:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise invalid_request(f"content-encoding {encoding!r} is not supported: send the body as it is")
    try:
        async with asyncio.timeout(seconds):
            # Not cached: the body would stay in memory for as long as its answer streams.
            return cast("bytes", await request.get_data(cache=False))
    except TimeoutError:
        raise ApiError(408, f"The request body did not come within {seconds:g} s") from None


class EventBytes:
    """The body of a streamed response: one write for each read of the upstream. Quart calls `aclose` in the end."""

    def __init__(self, stream: AnswerStream | PassedStream | PendingStream, request_id: str, log: Log) -> None:
        self._stream = stream
        self._request_id = request_id
        self._log = log

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        received: Events = await anext(self._stream)
        written = received if isinstance(received, bytes) else b"".join(map(encode, received))
        self._log.body("client events", self._request_id, written)
        return written

    async def aclose(self) -> None:
        await self._stream.aclose()
