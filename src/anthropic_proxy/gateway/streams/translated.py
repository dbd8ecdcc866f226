"""Translate a streamed response: convert the upstream's bytes to Anthropic events."""

import contextlib
import math
from collections.abc import Callable

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.base import EventStream
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.text_fast_path import ChunkTemplate
from anthropic_proxy.translate.response.whole import to_events
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.openai import get_plain_text
from anthropic_proxy.wire.sse import (
    DONE,
    EventTooLargeError,
    SSEDecoder,
    get_stray_text,
    is_error_event,
    parse_data,
)

# Seconds. After [DONE], only a few bytes of the body are left. The connection can be reused when
# they have been read.
_DRAIN_SECONDS = 0.25

_MAX_STRAY_BYTES = 16 * 1024


class TranslatedStream(EventStream[list[JsonObject]]):
    """The translated events of a response."""

    def __init__(  # noqa: PLR0913 - the response, its translation, and callbacks
        self,
        response: UpstreamResponse,
        translator: StreamTranslator,
        api: Api,
        request_id: str,
        *,
        threads: TranslationThreads,
        on_read: Callable[[bytes], None] | None,
        on_end: Callable[["TranslatedStream"], None],
    ) -> None:
        """Translate the stream of `response`.

        Args:
            api: the API of the upstream.
            threads: translate a large response that is not streamed.
            on_read: called with the bytes of each read.
            on_end: called with this stream once, when it is closed.
        """
        super().__init__(response, request_id, [], on_read=on_read, on_end=on_end)
        self._threads = threads
        self._decoder = SSEDecoder()
        self._template = ChunkTemplate()
        self._translator = translator
        self._fast_path = translator.fast_path
        self._api = api
        self._reader = api.new_reader()
        # The beginning of the text outside of events.
        self._stray_text = bytearray()

    @property
    def usage(self) -> JsonObject | None:
        """The usage that the upstream reported, in tokens; None before that."""
        return self._translator.usage

    def limit_size(self) -> None:
        """Limit the size of the remaining response, for callers that collect all events."""
        self._response.limit_size()

    async def aclose(self) -> None:
        try:
            if self._is_input_complete:
                await self._drain()
        finally:
            await super().aclose()

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection can be reused."""
        until = self._loop.time() + _DRAIN_SECONDS
        with contextlib.suppress(ApiError):
            while await self._response.read_available(until):
                continue

    def _take_output(self) -> list[JsonObject]:
        batch, self._output = self._output, []
        return batch

    async def _wait_for_content(self) -> None:
        """Read until there is an event for the client."""
        if self._response.headers.get("content-type", "").startswith("application/json"):
            await self._translate_completion(await self._response.read())
        while not self._output and not self._is_finished:
            await self._step(math.inf)
        self._output = [*self._translator.start(), *self._output]

    async def _translate_completion(self, body: bytes) -> None:
        """Translate a complete response, which an upstream sent instead of the requested stream."""
        self._is_input_complete = True
        if self._on_read is not None:
            self._on_read(body)
        self._output += await self._threads.run_if_large(
            body,
            lambda: to_events(self._api.to_completion(self._parse_body(body)), self._translator),
        )
        self._is_finished = self._translator.is_finished

    def _parse_body(self, body: bytes) -> JsonObject:
        completion = loads_object(body)
        if completion is None:
            raise upstream_errors.parse_body_error(body, self._translator.spec.upstream)
        return completion

    def _is_message_complete(self) -> bool:
        return self._translator.has_finish_reason

    def _feed(self, data: bytes) -> None:
        try:
            raw_events = self._decoder.split_events(data)
        except EventTooLargeError as error:
            raise ApiError(500, f"The upstream sent {error}") from error
        at = 0
        while at < len(raw_events):
            # Not `islice(raw_events, at, None)`: it would iterate over the events before `at`.
            following = map(raw_events.__getitem__, range(at, len(raw_events)))
            texts = self._template.parse_texts(following)
            if texts:
                self._translate_texts(texts, raw_events[at : at + len(texts)])
                at += len(texts)
            else:
                self._translate_event(raw_events[at])
                at += 1
        self._is_finished = self._translator.is_finished

    def _translate_texts(self, texts: list[str], raw_events: list[bytes]) -> None:
        """Translate the texts of events together.

        If this is not possible, because a filter must read some of them, translate each separately.
        """
        text_events = self._fast_path.feed(texts)
        if text_events:
            self._output += text_events
            return
        for text, raw_event in zip(texts, raw_events, strict=True):
            text_events = self._fast_path.feed((text,))
            if text_events:
                self._output += text_events
            else:
                self._translate_payload(parse_data(raw_event))

    def _translate_event(self, raw_event: bytes) -> None:
        payload = parse_data(raw_event)
        if payload is None:
            # Some servers write an error into the stream without the format of an event.
            self._stray_text += get_stray_text(raw_event)[:_MAX_STRAY_BYTES]
            del self._stray_text[_MAX_STRAY_BYTES:]
        else:
            if is_error_event(raw_event) and not self._translator.is_finished:
                self._raise_error_event(payload)
            self._translate_payload(payload)

    def _raise_error_event(self, payload: bytes) -> None:
        error = upstream_errors.parse_error_data(payload, self._translator.spec.upstream)
        if error is not None:
            raise error

    def _close_translation(self, *, done: bool) -> None:
        """Add the last events of the response. Raises ApiError if it is incomplete."""
        if self._stray_text and not self._translator.is_finished:
            self._raise_stray_error()
        self._output += self._translator.close(done=done)

    def _raise_stray_error(self) -> None:
        """Raise ApiError if the text outside of events is an error, or all that was sent."""
        upstream, text = self._translator.spec.upstream, bytes(self._stray_text)
        error = upstream_errors.parse_stray_error(text, upstream)
        if error is None and not self._translator.has_finish_reason:
            error = upstream_errors.parse_error_data(text, upstream)
        if error is not None:
            raise error

    def _translate_payload(self, payload: bytes | None) -> None:
        if payload == DONE:
            self._is_input_complete = True
            self._close_translation(done=self._api.done_ends_stream)
        elif payload and not self._translator.is_finished:
            event = _parse_chunk(payload)
            if self._template.is_learning:
                self._template.learn(payload, get_plain_text(event))
            for chunk in self._reader.feed(event):
                self._output += self._translator.feed(chunk)

    def _end_of_input(self) -> None:
        self._translate_event(self._decoder.split_rest())
        self._close_translation(done=False)
        self._is_finished = True

    def _handle_silence(self) -> None:
        if self._translator.has_finish_reason:
            # Some servers do not close the connection after the last event.
            self._end_of_input()
        else:
            self._output.append(events.ping())

    def _finish_with_error(self, error: ApiError) -> None:
        self.error = error
        self._output += self._translator.fail(error, self._request_id)
        self._is_finished = True


def _parse_chunk(payload: bytes) -> JsonObject:
    chunk = loads_object(payload)
    if chunk is None:
        raise ApiError(500, "The upstream sent an invalid chunk: it is not a JSON object")
    return chunk
