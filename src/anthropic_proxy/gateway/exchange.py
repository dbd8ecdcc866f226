"""Send a prepared request, and read its response as a Message or as a stream of events."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.streams.message_stream import MessageStream
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.gateway.upstream_response import create_read_logger, to_rate_limit_headers
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.translate.adaptation.changes import STREAM_FIELDS
from anthropic_proxy.translate.adaptation.tool_limits import list_missing_tools
from anthropic_proxy.translate.notes import UNAVAILABLE_HEADER, build_unavailable_header
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.translate.tool_names import to_caller_name
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject

_Result = TypeVar("_Result")


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

        async def read(response: UpstreamResponse) -> JsonObject:
            response.limit_size()
            stream = self._create_stream(context, prepared, response, is_collected=True)
            return collect_message(await _collect_events(stream))

        # Only a stream can be closed when a stop sequence appears.
        fields = STREAM_FIELDS if prepared.spec.stop_sequences else {}
        message = await self._send(context, prepared, fields, read)
        if context.is_stream:
            context.observation.mark_first_token()
        return message

    async def open_stream(
        self, context: RequestContext, prepared: PreparedRequest
    ) -> MessageStream:
        """Return the stream of a Message when its first content has arrived. Raises ApiError."""

        async def read(response: UpstreamResponse) -> MessageStream:
            stream = self._create_stream(context, prepared, response, is_collected=False)
            await stream.start()
            return stream

        stream = await self._send(context, prepared, STREAM_FIELDS, read)
        context.observation.mark_first_token()
        return stream

    async def _send(
        self,
        context: RequestContext,
        prepared: PreparedRequest,
        stream_fields: JsonObject,
        read: Callable[[UpstreamResponse], Awaitable[_Result]],
    ) -> _Result:
        """Send a request, and return the result of `read` for the successful response.

        Sets the headers of the client's response, and marks the request as accepted. Raises
        ApiError.

        The upstream may send its response in another form than `stream_fields` request: a model may
        require it (see `stream_rules`), and some servers ignore the request.
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
            return await read(response)

        return await self._sender.send(prepared, stream_fields, context.request_id, handle_response)

    def _create_stream(
        self,
        context: RequestContext,
        prepared: PreparedRequest,
        response: UpstreamResponse,
        *,
        is_collected: bool,
    ) -> TranslatedStream:
        """Create the stream of a response in any form.

        is_collected: whether the client receives no events, so that a failure can be raised.
        """
        translator = StreamTranslator(prepared.spec)
        on_end = partial(
            self._record_end,
            context.observation,
            prepared.without_body(),
            translator,
            is_collected=is_collected,
        )
        return TranslatedStream(
            response,
            translator,
            prepared.api,
            context.request_id,
            threads=self._threads,
            on_read=create_read_logger(self._log, context.request_id),
            on_end=on_end,
        )

    def _record_end(
        self,
        observation: Observation,
        prepared: PreparedRequest,
        translator: StreamTranslator,
        stream: TranslatedStream,
        *,
        is_collected: bool,
    ) -> None:
        self._update_memory(prepared, translator)
        if not stream.started:
            # The caller handles the error.
            return
        for error in (stream.error, stream.unexpected_error):
            if error is not None and not is_collected:
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


async def _collect_events(stream: TranslatedStream) -> list[JsonObject]:
    """Return all events of a response. Raises ApiError if it fails."""
    await stream.start()
    events: list[JsonObject] = []
    try:
        async for batch in stream:
            events += batch
    finally:
        await stream.aclose()
    if stream.error is not None:
        raise stream.error
    return events
