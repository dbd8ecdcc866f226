"""Translate a streamed response: convert the upstream's bytes to Anthropic events."""

from collections.abc import Callable

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.base import (
    SILENCE_SECONDS,
    USAGE_SECONDS,
    EventStream,
    ReadLogger,
)
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.event_translator import EventTranslator
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import translate_body
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.sse import EventTooLargeError, SSEDecoder


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
        on_read: ReadLogger | None,
        on_end: Callable[["TranslatedStream"], None],
    ) -> None:
        """Translate the stream of `response`.

        Args:
            api: the API of the upstream.
            threads: translate a large response that is not streamed.
            on_read: called for each read.
            on_end: called with this stream once, when it is closed.
        """
        super().__init__(response, request_id, [], on_read=on_read, on_end=on_end)
        self._threads = threads
        self._translator = translator
        self._fast_path = translator.fast_path
        self._event_translator = EventTranslator(api, translator)
        self._template = self._event_translator.template
        self._decoder = SSEDecoder()
        self._api = api
        # The content so far when `_complete_at` was set.
        self._content_count = -1

    @property
    def usage(self) -> JsonObject | None:
        """The usage of the complete response, in tokens; None before its end."""
        return self._translator.usage

    def _take_output(self) -> list[JsonObject]:
        batch, self._output = self._output, []
        return batch

    async def _wait_for_content(self) -> None:
        """Read until there is an event for the client."""
        while not self._output and not self._is_finished:
            if not await self._step(self._complete_at):
                self._handle_silence()
        self._output = [*self._translator.start(), *self._output]

    async def _convert_document(self, body: bytes) -> None:
        self._output += await self._threads.run_if_large(
            body, lambda: translate_body(body, self._api, self._translator)
        )

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
        if self._translator.has_finish_reason and not self._translator.is_finished:
            self._limit_wait_for_usage()
        self._is_finished = self._translator.is_finished

    def _limit_wait_for_usage(self) -> None:
        """Limit the time without content after the finish reason. Heartbeats do not extend it."""
        now = self._loop.time()
        if self._translator.content_count != self._content_count:
            self._content_count = self._translator.content_count
            may_continue = self._translator.may_continue
            self._complete_at = now + (SILENCE_SECONDS if may_continue else USAGE_SECONDS)
        elif now >= self._complete_at:
            self._end_of_input()

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
                self._translate_event(raw_event)

    def _translate_event(self, raw_event: bytes) -> None:
        try:
            self._event_translator.feed(raw_event)
        finally:
            self._take_events()

    def _end_of_input(self) -> None:
        try:
            self._event_translator.close(self._decoder.split_rest())
        finally:
            self._take_events()
        self._is_finished = True

    def _take_events(self) -> None:
        """Add the translated events to `_output`, also those before an error."""
        self._output += self._event_translator.take()
        if self._event_translator.is_input_complete:
            self._is_input_complete = True

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
