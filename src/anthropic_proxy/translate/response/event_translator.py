"""Translate the server-sent events of a stream or of a complete body."""

import re

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.text_fast_path import ChunkTemplate
from anthropic_proxy.translate.response.unread import MAX_SAMPLE_BYTES, append_sample
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.openai import get_plain_text
from anthropic_proxy.wire.payloads import InvalidPayloadError, is_done, parse_payload
from anthropic_proxy.wire.sse import get_stray_text, is_error_event, parse_data

_MAX_STRAY_BYTES = 16 * 1024

# Words of gateways in place of `[DONE]`, or before it.
_END_MARK = re.compile(
    rb"[\[<]?(?:eof|eos|end|done|finish(?:ed)?|stop(?:ped)?|closed?|completed?)[\]>]?",
    re.IGNORECASE,
)


def parse_chunks(payload: bytes, upstream: UpstreamIdentity) -> list[JsonObject]:
    """Return the objects in the data of an event; none for a keep-alive. Raises ApiError."""
    chunk = loads_object(payload)
    if chunk is not None:
        # A fast path for nearly all events.
        return [chunk]
    try:
        return parse_payload(payload)
    except InvalidPayloadError as error:
        text = "The upstream sent an invalid chunk: it is not a JSON object"
        sample = payload[:MAX_SAMPLE_BYTES]
        raise ApiError(500, append_sample(text, sample, upstream)) from error


class EventTranslator:
    """Translates the events of one response.

    Call `feed` for each event, then `close`. `take` returns the translated events, also after an
    error.
    """

    def __init__(self, api: Api, translator: StreamTranslator) -> None:
        # True if the upstream has sent everything that belongs to the message.
        self.is_input_complete = False
        # Learns from each event with only text.
        self.template = ChunkTemplate()
        # True if an event had data.
        self.has_data = False
        self._api = api
        self._reader = api.new_reader()
        self._translator = translator
        self._output: list[JsonObject] = []
        # The beginning of the text outside of events.
        self._stray_text = bytearray()

    def take(self) -> list[JsonObject]:
        """Return the translated events since the last call."""
        output, self._output = self._output, []
        return output

    def feed(self, raw_event: bytes) -> None:
        """Translate one complete event. After the end of the message, it is ignored.

        Raises ApiError.
        """
        payload = parse_data(raw_event)
        if payload is None:
            # Some servers write an error into the stream without the format of an event.
            self._stray_text += get_stray_text(raw_event)[:_MAX_STRAY_BYTES]
            del self._stray_text[_MAX_STRAY_BYTES:]
            payload = b""
        else:
            self.has_data = True
        # The first check is fast, and sufficient for nearly all events.
        if not payload.startswith(b"{") and is_done(payload):
            self._end_message(done=self._api.done_ends_stream)
        if self._translator.is_finished:
            return
        if is_error_event(raw_event):
            self._translate_error_event(payload)
        elif payload:
            self._translate_payload(payload)

    def close(self, rest: list[bytes]) -> None:
        """Translate the end of the input. Raises ApiError if the response is incomplete.

        rest: the last event if no empty line ended it. After the finish reason, it is ignored if
            its data is incomplete.
        """
        for raw_event in rest:
            if not self._translator.has_finish_reason or _is_whole(raw_event):
                self.feed(raw_event)
        self._close_translation(done=False)

    def _translate_payload(self, payload: bytes) -> None:
        if not self._translator.received:
            self._translator.record_payload(payload)
        if self._is_end_mark(payload):
            return
        for event in parse_chunks(payload, self._translator.spec.upstream):
            if self.template.is_learning:
                self.template.learn(payload, get_plain_text(event))
            for chunk in self._reader.feed(event):
                self._output += self._translator.feed(chunk)
            if self._translator.is_complete or self._reader.is_complete:
                self._end_message(done=False)
                return

    def _is_end_mark(self, payload: bytes) -> bool:
        """Return whether data marks the end of a response that is complete.

        Before a finish reason, such a word is an error: `EOF` is also the error of Go's HTTP client
        for a connection that broke off.
        """
        if payload.startswith(b"{") or not self._translator.has_finish_reason:
            return False
        return not self._translator.may_continue and _END_MARK.fullmatch(payload) is not None

    def _translate_error_event(self, payload: bytes) -> None:
        """Raise the error of an event that is named `error`, unless it becomes a refusal.

        The API may have its own form of errors. In other forms, the data is not a chunk.
        """
        event = loads_object(payload)
        for chunk in self._reader.feed(event or {}):
            self._output += self._translator.feed(chunk)
        if self._translator.has_refused:
            return
        raise upstream_errors.parse_error_event(payload, self._translator.spec.upstream)

    def _end_message(self, *, done: bool) -> None:
        """End the message. The rest of the body contains nothing that belongs to it."""
        self.is_input_complete = True
        self._close_translation(done=done)

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


def _is_whole(raw_event: bytes) -> bool:
    """Return whether the data of an event that no empty line ended is complete."""
    payload = parse_data(raw_event)
    return payload is None or is_done(payload) or loads_object(payload) is not None
