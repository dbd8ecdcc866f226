"""Send a prepared request, and read its response as a Message or as a stream of events."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.streams.message_stream import EventListStream, MessageStream
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.gateway.upstream_response import read_body, to_rate_limit_headers
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.translate.adaptation.changes import STREAM_FIELDS
from anthropic_proxy.translate.adaptation.tool_limits import list_missing_tools
from anthropic_proxy.translate.notes import UNAVAILABLE_HEADER, build_unavailable_header
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message, translate_body
from anthropic_proxy.translate.tool_names import to_caller_name
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject

_Result = TypeVar("_Result")
# Builds a response from all of its events.
_Build = Callable[[list[JsonObject]], _Result]


class Exchange:
    """Sends requests, and reads their responses.

    Properties of a model that a response shows are recorded in `sender` and `counter`.
    """

    def __init__(
        self, sender: AdaptiveSender, counter: TokenCounter, threads: TranslationThreads
    ) -> None:
        self._sender = sender
        self._counter = counter
        self._threads = threads
        self._log = sender.log

    async def fetch_message(self, context: RequestContext, prepared: PreparedRequest) -> JsonObject:
        """Return the Message. Raises ApiError."""
        # Only a stream can be closed when a stop sequence appears.
        fields = STREAM_FIELDS if prepared.spec.stop_sequences else {}
        response = await self._request(context, prepared, fields, collect_message)
        if isinstance(response, TranslatedStream):
            return await self._collect_stream(response)
        return response

    async def open_stream(
        self, context: RequestContext, prepared: PreparedRequest
    ) -> MessageStream:
        """Return the stream of a Message when its first content has arrived. Raises ApiError."""
        return await self._request(context, prepared, STREAM_FIELDS, EventListStream)

    async def _request(
        self,
        context: RequestContext,
        prepared: PreparedRequest,
        stream_fields: JsonObject,
        build: _Build[_Result],
    ) -> TranslatedStream | _Result:
        """Send a request, and return its response in the form in which the upstream sends it.

        A model may require the other form than `stream_fields` request (see `stream_rules`).

        build: builds the result from the events of a response that is not streamed.
        """

        async def read(
            response: UpstreamResponse, sent_body: JsonObject
        ) -> TranslatedStream | _Result:
            if sent_body.get("stream"):
                return await self._read_stream(context, prepared, response)
            return await self._read_whole(context, prepared, build, response)

        return await self._send_and_read(context, prepared, stream_fields, read)

    async def _collect_stream(self, stream: TranslatedStream) -> JsonObject:
        stream.limit_size()
        events: list[JsonObject] = []
        try:
            async for batch in stream:
                events += batch
        finally:
            await stream.aclose()
        if stream.error is not None:
            raise stream.error
        return collect_message(events)

    async def _send_and_read(
        self,
        context: RequestContext,
        prepared: PreparedRequest,
        stream_fields: JsonObject,
        read: Callable[[UpstreamResponse, JsonObject], Awaitable[_Result]],
    ) -> _Result:
        """Send a request, and return the result of `read` for the successful response.

        Sets the headers of the client's response, and marks the request as accepted. Raises
        ApiError.
        """
        headers = context.response_headers
        untranslated = headers.get(UNAVAILABLE_HEADER)

        async def handle_response(response: UpstreamResponse, sent_body: JsonObject) -> _Result:
            unavailable = [untranslated] if untranslated else []
            for name in list_missing_tools(prepared.body, sent_body):
                unavailable.append(to_caller_name(prepared.spec.tool_names, name).name)
            headers.update(build_unavailable_header(unavailable))
            headers.update(to_rate_limit_headers(response.headers))
            context.accepted.set()
            return await read(response, sent_body)

        return await self._sender.send(prepared, stream_fields, context.request_id, handle_response)

    async def _read_whole(
        self,
        context: RequestContext,
        prepared: PreparedRequest,
        build: _Build[_Result],
        response: UpstreamResponse,
    ) -> _Result:
        """Read a response that is not streamed, and record it."""
        body = await read_body(response, self._log, context.request_id)
        translator = StreamTranslator(prepared.spec)
        events = await self._threads.run_if_large(
            body, lambda: translate_body(body, prepared.api, translator)
        )
        result = build([*translator.start(), *events])
        self._update_memory(prepared, translator)
        if context.is_stream:
            context.observation.mark_first_token()
        context.observation.record_response(
            translator.usage or translator.current_usage,
            translator.stop_reason,
            len(translator.assembler.calls),
            translator.assembler.repair_counts,
        )
        return result

    async def _read_stream(
        self, context: RequestContext, prepared: PreparedRequest, response: UpstreamResponse
    ) -> TranslatedStream:
        translator = StreamTranslator(prepared.spec)
        on_read = None
        if self._log.verbose:
            on_read = partial(self._log.log_body, "upstream chunk received", context.request_id)
        stream = TranslatedStream(
            response,
            translator,
            prepared.api,
            context.request_id,
            threads=self._threads,
            on_read=on_read,
            on_end=partial(
                self._record_stream_end, context.observation, prepared.without_body(), translator
            ),
        )
        await stream.start()
        if context.is_stream:
            context.observation.mark_first_token()
        return stream

    def _record_stream_end(
        self,
        observation: Observation,
        prepared: PreparedRequest,
        translator: StreamTranslator,
        stream: TranslatedStream,
    ) -> None:
        self._update_memory(prepared, translator)
        if not stream.started:
            # The caller of `open_stream` handles the error.
            return
        for error in (stream.error, stream.unexpected_error):
            # `_collect_stream` raises the error, so it is not a broken stream of the client.
            if error is not None and observation.is_stream:
                self._log.log_stream_failure(observation.request_id, error)
                observation.record_stream_failure(error)
        # Upstreams also charge for the tokens of an incomplete response.
        observation.record_response(
            stream.usage or translator.current_usage,
            translator.stop_reason,
            len(translator.assembler.calls),
            translator.assembler.repair_counts,
        )

    def _update_memory(self, prepared: PreparedRequest, translator: StreamTranslator) -> None:
        """Record the properties of the model that a response shows."""
        reported_tokens = translator.reported_input_tokens
        if translator.unknown_finish_reason:
            self._log.log_ignored({f"finish reason {translator.unknown_finish_reason}"})
        if reported_tokens is not None:
            self._sender.metrics.observe_token_estimate(
                prepared.spec.input_estimate, reported_tokens
            )
        self._counter.observe(prepared.model, prepared.estimate, reported_tokens)
        if translator.stop_reason is not None:
            memory = self._sender.get_memory(prepared.model)
            memory.opens_thinking[prepared.forbids_thinking] = translator.next_starts_in_thinking
            memory.record_prompt(reported_tokens or 0)
            if translator.assembler.has_native_ids:
                memory.record_native_call_ids(time.monotonic())
