"""One request and its answer: sent, read whole or as a stream, translated back, and learned from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from anthropic_proxy.gateway.adaptive_sender import Outgoing, Sender, rate_limits
from anthropic_proxy.gateway.request_context import Progress
from anthropic_proxy.gateway.streams.translated import AnswerStream, opened
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.adaptation.tool_limits import missing_tools
from anthropic_proxy.translate.notes import UNAVAILABLE_HEADER, unavailable_header
from anthropic_proxy.translate.request.thinking import forbids_thinking
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import AnswerSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import no_tokens, to_message
from anthropic_proxy.translate.tokens.estimate import Estimate
from anthropic_proxy.translate.tool_names import client_name
from anthropic_proxy.upstream.client import Call, EndpointClient
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Exchange:
    """One request on its way to an endpoint.

    body: of Chat Completions. spec: for the way back. progress: told of its way. estimate: for what its tokens teach.
    """

    request_id: str
    client: EndpointClient
    body: JsonObject
    spec: AnswerSpec
    progress: Progress
    estimate: Estimate

    @property
    def lesson(self) -> "_Lesson":
        """What its answer will teach."""
        return _Lesson(
            self.body["model"], forbids_thinking(self.body), self.spec.input_estimate, self.estimate
        )


@dataclass(frozen=True)
class _Lesson:
    """What an answer teaches is about: the model, asked in a way that forbids thinking or not; and how many tokens the
    request was taken for. A stream holds it until its end, and not the request, which may have megabytes.
    """

    model: str
    forbids_thinking: bool
    predicted: int
    estimate: Estimate


class Answering:
    """Answers exchanges. What an answer teaches about its model goes to `sender` and `counter`."""

    def __init__(self, sender: Sender, counter: TokenCounter, threads: TranslationThreads) -> None:
        self._sender = sender
        self._counter = counter
        self._threads = threads
        self._log = sender.log

    async def answer(
        self, request: JsonObject, exchange: Exchange
    ) -> JsonObject | AnswerStream | list[JsonObject]:
        """A message, or the events of one, as the request wants it. Raises ApiError."""
        if request["max_tokens"] == 0:
            events = no_tokens(exchange.spec)
            return events if request.get("stream") else collect.to_message(events)
        if request.get("stream"):
            return await self._stream(exchange)
        return await (
            self._collected(exchange) if exchange.spec.stop_sequences else self.whole(exchange)
        )

    async def whole(self, exchange: Exchange) -> JsonObject:
        """The message, read whole. Raises ApiError."""
        message, translator = await self._send(
            exchange, exchange.body, partial(self._message, exchange)
        )
        self._learn(exchange.lesson, translator)
        exchange.progress.observation.answered(
            message["usage"],
            message["stop_reason"],
            len(translator.calls.calls),
            translator.calls.repairs,
        )
        return message

    async def _message(
        self, exchange: Exchange, reply: Call
    ) -> tuple[JsonObject, StreamTranslator]:
        raw = await self._sender.read(reply, exchange.request_id)
        translator = StreamTranslator(exchange.spec)
        return await self._threads.run_if_large(
            raw, lambda: _to_message(raw, translator)
        ), translator

    async def _collected(self, exchange: Exchange) -> JsonObject:
        """An answer read as a stream, so that the upstream can be stopped at a stop sequence."""
        stream = await self._stream(exchange)
        stream.bound()
        try:
            events = [event async for batch in stream for event in batch]
        finally:
            await stream.aclose()
        if stream.error is not None:
            raise stream.error
        return collect.to_message(events)

    async def _stream(self, exchange: Exchange) -> AnswerStream:
        has_options = exchange.client.endpoint.dialect.stream_options
        streaming = {
            "stream": True,
            **({"stream_options": {"include_usage": True}} if has_options else {}),
        }
        return await self._send(
            exchange, exchange.body | streaming, partial(self._opened, exchange)
        )

    async def _opened(self, exchange: Exchange, reply: Call) -> AnswerStream:
        translator = StreamTranslator(exchange.spec)
        stream = AnswerStream(
            reply,
            translator,
            exchange.request_id,
            threads=self._threads,
            on_read=partial(self._log.body, "upstream read", exchange.request_id)
            if self._log.verbose
            else None,
            on_end=partial(
                self._stream_ended, exchange.lesson, exchange.progress.observation, translator
            ),
        )
        await opened(stream)
        exchange.progress.observation.content_begins()
        return stream

    async def _send(
        self, exchange: Exchange, body: JsonObject, read: Callable[[Call], Awaitable[_Answer]]
    ) -> _Answer:
        """What `read` makes of the upstream's reply, once its status is known to be good. Raises ApiError."""
        headers = exchange.progress.headers
        unavailable = headers.get(UNAVAILABLE_HEADER)

        async def accepted(reply: Call, sent: JsonObject) -> _Answer:
            left_out = [
                client_name(exchange.spec.tool_names, name).name
                for name in missing_tools(exchange.body, sent)
            ]
            headers.update(unavailable_header([*filter(None, [unavailable]), *left_out]))
            headers.update(rate_limits(reply.headers))
            exchange.progress.accepted.set()
            return await read(reply)

        return await self._sender.send(
            Outgoing(
                exchange.client,
                exchange.spec.api,
                body,
                exchange.request_id,
                exchange.spec.input_estimate,
            ),
            accepted,
        )

    def _stream_ended(
        self,
        lesson: _Lesson,
        observation: Observation,
        translator: StreamTranslator,
        stream: AnswerStream,
    ) -> None:
        for error in (stream.error, stream.unforeseen):
            # Of a stream that did not start its caller tells.
            if error is not None and stream.started:
                self._log.broken_off(observation.request_id, error)
                observation.broken_off(error)
        if stream.started:
            # Of an answer that its client left, or that broke off, what had come was paid for as well.
            usage = stream.usage or translator.usage_so_far
            observation.answered(
                usage, translator.outcome, len(translator.calls.calls), translator.calls.repairs
            )
        self._learn(lesson, translator)

    def _learn(self, lesson: _Lesson, translator: StreamTranslator) -> None:
        """What an answer teaches about its model."""
        known = self._sender.learned(lesson.model)
        if translator.unknown_finish_reason:
            self._log.ignored({f"finish reason {translator.unknown_finish_reason}"})
        if translator.reported_input is not None:
            self._sender.metrics.predicted(lesson.predicted, translator.reported_input)
        self._counter.observe(lesson.model, lesson.estimate, translator.reported_input)
        if translator.outcome is not None:
            known.opens_thinking[lesson.forbids_thinking] = translator.opens_thinking
            known.has_read(translator.reported_input or 0)


def _to_message(raw: bytes, translator: StreamTranslator) -> JsonObject:
    answer = loads_object(raw)
    if answer is None:
        raise upstream_errors.no_completion(translator.spec.source)
    return to_message(answer, translator)
