"""One request and its answer: sent, read whole or as a stream, translated back, and learned from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from anthropic_proxy.gateway.adaptive_sender import (
    AdaptiveSender,
    OutgoingRequest,
    to_rate_limit_headers,
)
from anthropic_proxy.gateway.request_context import ResponseState
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.adaptation.tool_limits import list_missing_tools
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.notes import UNAVAILABLE_HEADER, build_unavailable_header
from anthropic_proxy.translate.request.thinking import disables_thinking
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import build_empty_events, to_message
from anthropic_proxy.translate.tokens.estimate import TokenEstimate
from anthropic_proxy.translate.tool_names import to_caller_name
from anthropic_proxy.upstream.client import UpstreamClient, UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

TranslatedContent = JsonObject | TranslatedStream | list[JsonObject]
"""A Message, or its events: as a stream, or all at once."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Exchange:
    """One request to an upstream.

    Attributes:
        api: the API by which the request is sent.
        body: a Chat Completions request.
        spec: what the translation of the response needs.
        state: updated as the response comes in.
        estimate: the token estimate of the request, with which the reported tokens are compared.
    """

    request_id: str
    client: UpstreamClient
    api: Api
    body: JsonObject
    spec: ResponseSpec
    state: ResponseState
    estimate: TokenEstimate

    @property
    def request_traits(self) -> "_RequestTraits":
        """What its answer will teach."""
        return _RequestTraits(
            self.body["model"],
            disables_thinking(self.body),
            self.spec.input_estimate,
            self.estimate,
        )


@dataclass(frozen=True)
class _RequestTraits:
    """What an answer teaches is about: the model, asked in a way that forbids thinking or not; and how many tokens the
    request was taken for. A stream holds it until its end, and not the request, which may have megabytes.
    """

    model: str
    forbids_thinking: bool
    predicted_tokens: int
    estimate: TokenEstimate


class ExchangeRunner:
    """Answers exchanges. What an answer teaches about its model goes to `sender` and `counter`."""

    def __init__(
        self, sender: AdaptiveSender, counter: TokenCounter, threads: TranslationThreads
    ) -> None:
        self._sender = sender
        self._counter = counter
        self._threads = threads
        self._log = sender.log

    async def run(self, request: JsonObject, exchange: Exchange) -> TranslatedContent:
        """A message, or the events of one, as the request wants it. Raises ApiError."""
        if request["max_tokens"] == 0:
            events = build_empty_events(exchange.spec)
            return events if request.get("stream") else collect.collect_message(events)
        if request.get("stream"):
            return await self._request_stream(exchange)
        return await (
            self._collect_stream(exchange)
            if exchange.spec.stop_sequences
            else self.fetch_message(exchange)
        )

    async def fetch_message(self, exchange: Exchange) -> JsonObject:
        """The message, read whole. Raises ApiError."""
        message, translator = await self._send(
            exchange, exchange.body, partial(self._read_message, exchange)
        )
        self._update_memory(exchange.request_traits, translator)
        exchange.state.observation.record_response(
            message["usage"],
            message["stop_reason"],
            len(translator.assembler.calls),
            translator.assembler.repair_counts,
        )
        return message

    async def _read_message(
        self, exchange: Exchange, response: UpstreamResponse
    ) -> tuple[JsonObject, StreamTranslator]:
        body = await self._sender.read_body(response, exchange.request_id)
        translator = StreamTranslator(exchange.spec)
        return await self._threads.run_if_large(
            body, lambda: _parse_message(body, exchange.api, translator)
        ), translator

    async def _collect_stream(self, exchange: Exchange) -> JsonObject:
        """An answer read as a stream, so that the upstream can be stopped at a stop sequence."""
        stream = await self._request_stream(exchange)
        stream.limit_size()
        try:
            events = [event async for batch in stream for event in batch]
        finally:
            await stream.aclose()
        if stream.error is not None:
            raise stream.error
        return collect.collect_message(events)

    async def _request_stream(self, exchange: Exchange) -> TranslatedStream:
        has_options = exchange.client.upstream.profile.stream_options
        streaming = {
            "stream": True,
            **({"stream_options": {"include_usage": True}} if has_options else {}),
        }
        return await self._send(
            exchange, exchange.body | streaming, partial(self._open_stream, exchange)
        )

    async def _open_stream(
        self, exchange: Exchange, response: UpstreamResponse
    ) -> TranslatedStream:
        translator = StreamTranslator(exchange.spec)
        stream = TranslatedStream(
            response,
            translator,
            exchange.api,
            exchange.request_id,
            threads=self._threads,
            on_read=partial(self._log.log_body, "upstream chunk received", exchange.request_id)
            if self._log.verbose
            else None,
            on_end=partial(
                self._record_stream_end,
                exchange.request_traits,
                exchange.state.observation,
                translator,
            ),
        )
        await stream.start()
        exchange.state.observation.mark_first_token()
        return stream

    async def _send(
        self,
        exchange: Exchange,
        body: JsonObject,
        read: Callable[[UpstreamResponse], Awaitable[_Result]],
    ) -> _Result:
        """What `read` makes of the upstream's reply, once its status is known to be good. Raises ApiError."""
        headers = exchange.state.headers
        unavailable = headers.get(UNAVAILABLE_HEADER)

        async def handle_response(response: UpstreamResponse, sent_body: JsonObject) -> _Result:
            missing_names = [
                to_caller_name(exchange.spec.tool_names, name).name
                for name in list_missing_tools(exchange.body, sent_body)
            ]
            headers.update(build_unavailable_header([*filter(None, [unavailable]), *missing_names]))
            headers.update(to_rate_limit_headers(response.headers))
            exchange.state.accepted.set()
            return await read(response)

        return await self._sender.send(
            OutgoingRequest(
                exchange.client,
                exchange.api,
                body,
                exchange.request_id,
                exchange.spec.input_estimate,
            ),
            handle_response,
        )

    def _record_stream_end(
        self,
        traits: _RequestTraits,
        observation: Observation,
        translator: StreamTranslator,
        stream: TranslatedStream,
    ) -> None:
        for error in (stream.error, stream.unexpected_error):
            # Of a stream that did not start its caller tells.
            if error is not None and stream.started:
                self._log.log_stream_failure(observation.request_id, error)
                observation.record_stream_failure(error)
        if stream.started:
            # Of an answer that its client left, or that broke off, what had come was paid for as well.
            usage = stream.usage or translator.current_usage
            observation.record_response(
                usage,
                translator.stop_reason,
                len(translator.assembler.calls),
                translator.assembler.repair_counts,
            )
        self._update_memory(traits, translator)

    def _update_memory(self, traits: _RequestTraits, translator: StreamTranslator) -> None:
        """What an answer teaches about its model."""
        memory = self._sender.get_memory(traits.model)
        if translator.unknown_finish_reason:
            self._log.log_ignored({f"finish reason {translator.unknown_finish_reason}"})
        if translator.reported_input_tokens is not None:
            self._sender.metrics.observe_token_estimate(
                traits.predicted_tokens, translator.reported_input_tokens
            )
        self._counter.observe(traits.model, traits.estimate, translator.reported_input_tokens)
        if translator.stop_reason is not None:
            memory.opens_thinking[traits.forbids_thinking] = translator.next_starts_in_thinking
            memory.record_prompt(translator.reported_input_tokens or 0)


def _parse_message(body: bytes, api: Api, translator: StreamTranslator) -> JsonObject:
    completion = loads_object(body)
    if completion is None:
        raise upstream_errors.not_a_completion_error(translator.spec.upstream)
    return to_message(api.to_completion(completion), translator)
