"""Requests passed through to an upstream that speaks the Messages API itself: the client's bytes there, its bytes back.

It has the interface of Serving. What is not the API's own form, an error page of a gateway or another server's error, is
told as with any upstream; and so is the refusal of a key that is the proxy's.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from anthropic_proxy.errors import NOT_THERE, ApiError
from anthropic_proxy.gateway.adaptive_sender import raise_for_page, told
from anthropic_proxy.gateway.request_context import Asked
from anthropic_proxy.gateway.streams.passthrough import PassedStream
from anthropic_proxy.gateway.streams.translated import opened
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate import passthrough, upstream_errors
from anthropic_proxy.translate.compaction_blocks import without_compaction_blocks
from anthropic_proxy.translate.tokens.estimate import estimate_untranslated
from anthropic_proxy.upstream.client import Call, EndpointClient
from anthropic_proxy.upstream.http_client import Reply, UpstreamError
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds. Clients wait for a count before they ask.
_COUNT_SECONDS = 10


class Passing:
    """Passes requests through to one endpoint, which `client` sends to."""

    def __init__(self, client: EndpointClient, log: Log) -> None:
        self.client = client
        self._log = log

    async def answer(self, asked: Asked, chosen: Route) -> bytes | PassedStream:
        """The answer of the chosen model. Raises ApiError."""
        client, endpoint = (
            self.client.for_client(
                asked.client, asked.progress.observation, asked.progress.repeats
            ),
            chosen.endpoint,
        )
        payload = passthrough.payload(asked.raw, asked.request, chosen.model, endpoint.extra_body)
        self._log.debug(
            "begun",
            request_id=asked.request_id,
            upstream=endpoint.name,
            upstream_model=chosen.model,
        )
        self._log.body("upstream request", asked.request_id, payload)
        asked.progress.begins(chosen)
        reply = await client.post(endpoint.url("/messages", asked.client.query), payload)
        if reply.status >= 300:
            raise self._failed(
                client, reply, await self._read(reply, asked.request_id), "/messages"
            )
        asked.progress.status = reply.status
        asked.progress.headers |= passthrough.response_headers(_headers(client, reply))
        if asked.request.get("stream"):
            try:
                stream = await opened(self._stream(asked.progress.observation, client, reply))
            except ApiError as error:
                raise_for_page(client, reply, error)
                raise
            if not passthrough.tells_input(passthrough.stream_usage(stream.told_usage)[0]):
                stream.input_estimate = self._input_estimate(asked, chosen)
            asked.progress.observation.content_begins()
            return stream
        raw = await self._read(reply, asked.request_id)
        if not raw.lstrip().startswith(b"{"):
            text = f"The upstream {endpoint.name} answered {reply.status} with something that is no message"
            unusable = ApiError(500, text)
            raise_for_page(client, reply, unusable)
            raise unusable
        _refuse_secrets(client, reply, raw)
        asked.progress.observation.answered(*passthrough.message_usage(raw))
        return raw

    async def count_tokens(self, asked: Asked, chosen: Route) -> bytes | JsonObject:
        """The upstream's count, or an estimate where it can't count. Raises ApiError."""
        client, endpoint = (
            self.client.for_client(
                asked.client, asked.progress.observation, asked.progress.repeats
            ),
            chosen.endpoint,
        )
        payload = passthrough.payload(asked.raw, asked.request, chosen.model, {})
        asked.progress.begins(chosen)
        try:
            async with asyncio.timeout(_COUNT_SECONDS):
                reply = await client.ask(
                    endpoint.url("/messages/count_tokens", asked.client.query), payload
                )
        except (TimeoutError, UpstreamError):
            return self._estimated(asked, chosen)
        if reply.status in NOT_THERE:
            await reply.aclose()
            return self._estimated(asked, chosen)
        raw = await self.good(client, reply, asked.request_id)
        asked.progress.headers |= passthrough.response_headers(_headers(client, reply))
        return raw

    async def good(self, client: EndpointClient, reply: Reply, request_id: str) -> bytes:
        """The body of a good reply to a question. Raises ApiError for any other."""
        raw = await self._read(reply, request_id)
        if reply.status >= 300:
            raise self._failed(client, reply, raw)
        _refuse_secrets(client, reply, raw)
        return raw

    def estimate(self, request: JsonObject, chosen: Route) -> int:  # noqa: ARG002 - as Serving has it
        """Input tokens of a checked request, without asking the upstream."""
        return max(estimate_untranslated(without_compaction_blocks(request)).total, 1)

    def learned(self, model: str) -> JsonObject:  # noqa: ARG002 - as Serving has it
        """Nothing: a request that is passed through is not changed."""
        return {}

    def _estimated(self, asked: Asked, chosen: Route) -> JsonObject:
        if asked.refusal is not None:
            raise asked.refusal
        return {"input_tokens": self.estimate(asked.request, chosen)}

    def _stream(
        self, observation: Observation, client: EndpointClient, reply: Call
    ) -> PassedStream:
        # It lasts: the request, which may have megabytes, must not be within its reach.
        seen = (
            partial(self._log.body, "upstream read", observation.request_id)
            if self._log.verbose
            else None
        )
        ended = partial(self._stream_ended, observation)
        return PassedStream(
            reply, client.source, observation.request_id, on_read=seen, on_end=ended
        )

    def _stream_ended(self, observation: Observation, stream: PassedStream) -> None:
        if stream.error is not None:
            self._log.broken_off(observation.request_id, stream.error)
            observation.broken_off(stream.error)
        usage, stop_reason = passthrough.stream_usage(stream.told_usage)
        if stream.started and stop_reason is None:
            usage = passthrough.usage_so_far(usage, stream.input_estimate, stream.output_estimate)
        observation.answered(usage, stop_reason, stream.tool_calls)

    def _input_estimate(self, asked: Asked, chosen: Route) -> int:
        # What the upstream takes and our checks don't has a form of which nothing is known.
        return 0 if asked.refusal is not None else self.estimate(asked.request, chosen)

    async def _read(self, reply: Call | Reply, request_id: str) -> bytes:
        try:
            raw = await reply.read()
        finally:
            await reply.aclose()
        self._log.body("upstream answer", request_id, raw)
        return raw

    def _failed(
        self, client: EndpointClient, reply: Call | Reply, raw: bytes, path: str = ""
    ) -> ApiError:
        """What the client is told of an answer that is none."""
        endpoint = client.endpoint
        is_about_key = reply.status in (401, 403)
        if not _repeats_secret(client, raw) and (endpoint.key_passthrough or not is_about_key):
            as_it_came = passthrough.error_of(reply.status, _headers(client, reply), raw)
            if as_it_came is not None:
                return as_it_came
        return told(upstream_errors.read(reply.status, reply.headers, raw, client.source, path))


def _headers(client: EndpointClient, reply: Call | Reply) -> Mapping[str, str]:
    """Return a reply's headers without those that repeat a secret: a masked number or id would be a wrong one."""
    source = client.source
    return {
        name: value for name, value in reply.headers.items() if source.redact_whole(value) == value
    }


def _refuse_secrets(client: EndpointClient, reply: Call | Reply, raw: bytes) -> None:
    """Raise ApiError for an error with a good status that repeats a secret."""
    if passthrough.is_error(raw) and _repeats_secret(client, raw):
        raise told(upstream_errors.read(500, reply.headers, raw, client.source))


def _repeats_secret(client: EndpointClient, raw: bytes) -> bool:
    text = raw.decode("utf-8", "surrogateescape")
    return client.source.redact_whole(text) != text
