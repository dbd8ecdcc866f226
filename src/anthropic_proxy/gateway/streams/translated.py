"""Translate one response while it streams: the upstream's bytes in, Anthropic events out, read by read.

`start` waits for the first content. Until then the client has received nothing of the response, so a failure is raised,
and another upstream may be used; from then on a failure becomes an `error` event. The stream is a class and not a generator
because a generator that was never started does not run its `finally`: `aclose` always reaches the upstream.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import to_events
from anthropic_proxy.upstream.client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.chunk_template import ChunkTemplate
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.openai import get_plain_text
from anthropic_proxy.wire.sse import DONE, EventTooLargeError, SSEDecoder, parse_data

# Seconds. After [DONE] the end of the body is a few bytes away; read, it lets the connection be used again.
_DRAIN_SECONDS = 0.25

# Seconds to the first content from what promises it: some upstreams say only within the stream that they are overloaded.
FIRST_CONTENT_SECONDS = 1

# Seconds without an event for the client, after which a ping tells it that all is well. Claude Code gives up on a stream
# that is silent for some minutes.
SILENCE_SECONDS = 10


class TranslatedStream:
    """An async iterator over the events (a list for each read of the upstream's socket). `aclose` after use."""

    def __init__(  # noqa: PLR0913 - what it reads, how it translates, and who watches
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
            api: the API in which the upstream writes the stream.
            threads: translate a large response that is not a stream.
            on_read: called with the bytes of each read.
            on_end: called with this stream once, when it is closed.
        """
        self.started = False
        self.error: ApiError | None = None
        self.unexpected_error: Exception | None = None
        self._response = response
        self._threads = threads
        self._on_read = on_read
        self._on_end: Callable[[TranslatedStream], None] | None = on_end
        self._decoder = SSEDecoder()
        self._template = ChunkTemplate()
        self._translator = translator
        self._api = api
        self._reader = api.new_reader()
        self._request_id = request_id
        self._events: list[JsonObject] = []
        self._loop = asyncio.get_running_loop()
        self._is_upstream_done = False

    @property
    def usage(self) -> JsonObject | None:
        """The usage of a complete response, in tokens."""
        return self._translator.usage

    async def start(self) -> None:
        """Wait for the first content, or for the end. Raises ApiError when the response fails before."""
        try:
            if self._response.headers.get("content-type", "").startswith("application/json"):
                await self._translate_completion(await self._response.read())
            while not self._events and not self._translator.is_finished:
                await self._step(math.inf)
        except ApiError as error:
            self.error = error
            raise
        self.started = True
        self._events = [*self._translator.start(), *self._events]

    def limit_size(self) -> None:
        """Limit the rest of the response to the size of one that is read whole, for callers that keep all its events."""
        self._response.limit_size()

    def __aiter__(self) -> AsyncIterator[list[JsonObject]]:
        return self

    async def __anext__(self) -> list[JsonObject]:
        silent_until = self._loop.time() + SILENCE_SECONDS
        try:
            while not self._events and not self._translator.is_finished:
                if not await self._step(silent_until):
                    self._events.append(events.ping())
        except ApiError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take a cut for an end
            self.unexpected_error = error
            self._fail(ApiError(500, "Internal server error"))
        if not self._events:
            await self.aclose()
            raise StopAsyncIteration
        batch, self._events = self._events, []
        return batch

    def _fail(self, error: ApiError) -> None:
        self.error = error
        self._events += self._translator.fail(error, self._request_id)

    async def aclose(self) -> None:
        """Release the connection after a complete response; otherwise close it."""
        try:
            if self._is_upstream_done:
                await self._drain()
        finally:
            await self._response.aclose()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    async def _step(self, until: float) -> bool:
        """Translate one read into `_events`; return False when nothing was read until `until`. Raises ApiError."""
        data = await self._read(until)
        if data is None:
            self._end_of_input()
        elif data:
            self._translate(self._decode(data))
        if self._translator.is_finished and not self._is_upstream_done:
            # A stop sequence: the upstream need not go on.
            await self._response.aclose()
        return data != b""

    async def _read(self, until: float) -> bytes | None:
        try:
            data = await self._response.read_available(until)
        except ApiError:
            if self._translator.has_finish_reason:
                return None
            raise
        if self._on_read is not None and data:
            self._on_read(data)
        return data

    def _decode(self, data: bytes) -> list[bytes]:
        try:
            return self._decoder.split_events(data)
        except EventTooLargeError as error:
            raise ApiError(500, f"The upstream sent {error}") from error

    def _translate(self, raw_events: list[bytes]) -> None:
        """Translate adjacent plain texts together, and all other events one by one."""
        at = 0
        while at < len(raw_events):
            # Not `islice(raw_events, at, None)`, which walks over the events before `at` each time.
            texts = self._template.parse_texts(
                map(raw_events.__getitem__, range(at, len(raw_events)))
            )
            end = at + max(len(texts), 1)
            if not self._translate_texts(texts):
                self._translate_each(raw_events[at:end], texts)
            at = end

    def _translate_each(self, raw_events: list[bytes], texts: list[str]) -> None:
        for number, raw_event in enumerate(raw_events):
            if not self._translate_texts(texts[number : number + 1]):
                self._translate_payload(parse_data(raw_event))

    def _translate_texts(self, texts: list[str]) -> bool:
        text_events = self._translator.feed_texts(texts)
        self._events += text_events
        return bool(text_events)

    def _translate_payload(self, payload: bytes | None) -> None:
        if payload == DONE:
            self._is_upstream_done = True
            self._events += self._translator.close(done=self._api.done_ends_stream)
        elif payload and not self._translator.is_finished:
            event = _parse_chunk(payload)
            if self._template.is_learning:
                self._template.learn(payload, get_plain_text(event))
            for chunk in self._reader.feed(event):
                self._events += self._translator.feed(chunk)

    async def _translate_completion(self, body: bytes) -> None:
        self._is_upstream_done = True
        if self._on_read is not None:
            self._on_read(body)
        self._events += await self._threads.run_if_large(
            body,
            lambda: to_events(self._api.to_completion(_parse_chunk(body)), self._translator),
        )

    def _end_of_input(self) -> None:
        self._is_upstream_done = True
        for payload in self._decoder.close():
            self._translate_payload(payload)
        self._events += self._translator.close(done=False)

    async def _drain(self) -> None:
        until = self._loop.time() + _DRAIN_SECONDS
        with contextlib.suppress(ApiError):
            while await self._response.read_available(until):
                continue


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


_Stream = TypeVar("_Stream", bound=_Startable)


async def start_stream(stream: _Stream) -> _Stream:
    """The stream, once it is sure that it has something to say; it is closed when it has not."""
    try:
        await stream.start()
    except BaseException:
        await stream.aclose()
        raise
    return stream


def _parse_chunk(payload: bytes) -> JsonObject:
    chunk = loads_object(payload)
    if chunk is None:
        raise ApiError(500, "The upstream sent something that is no chunk of an answer")
    return chunk
