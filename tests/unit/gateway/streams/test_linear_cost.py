"""The cost of hostile streams grows in proportion to their length, however they are cut into reads.

The cost of what their events say is measured in translate/test_linear_cost.py.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import cast

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import dumps
from anthropic_proxy.wire.sse import SSEDecoder, encode_event
from tests.support.response_specs import answer_spec
from tests.support.scaling import assert_linear_cpu

Work = Callable[[], object]


class _Reply:
    """An upstream's answer in the given reads."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, reads: Iterable[bytes]) -> None:
        self._reads = iter(reads)

    def end_first_token_limit(self) -> None:
        """Do nothing: the reads have no time limit."""

    async def read_available(self, _: float) -> bytes | None:
        return next(self._reads, None)

    async def release(self) -> None:
        """There is nothing to give back."""

    async def aclose(self) -> None:
        """There is nothing to give back."""


def _reads(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _decoded(make: Callable[[int], bytes], read: int) -> Callable[[int], Work]:
    def prepare(size: int) -> Work:
        reads = _reads(make(size), read)

        def work() -> None:
            decoder = SSEDecoder()
            for each in reads:
                decoder.feed(each)
            decoder.close()

        return work

    return prepare


@pytest.mark.parametrize(
    ("make", "read"),
    [
        pytest.param(lambda size: b"data: " + b"x" * (size * 64), 64, id="one-long-line"),
        pytest.param(
            lambda size: b"data: " + b"x" * (size * 64) + b"\n\n", 64, id="one-long-line-that-ends"
        ),
        pytest.param(lambda size: b": x\n" * (size * 16), 64, id="comments"),
        pytest.param(lambda size: b"data: {}\n" * (size * 8), 64, id="an-event-in-each-line"),
        pytest.param(
            lambda size: b"data: {}\n" * 2 + b"x" * (size * 64), 64, id="a-long-line-without-end"
        ),
        pytest.param(lambda size: b"data:\n" * (size * 16), 64, id="lines-of-data"),
        pytest.param(lambda size: b"event: x\r\n" * (size * 8), 64, id="CRLF"),
        pytest.param(lambda size: b"event: x\r" * (size * 8), 63, id="CR"),
        pytest.param(lambda size: b"data: " + b"x" * (size * 256), 1, id="byte-by-byte"),
    ],
)
def test_events_under_way(make: Callable[[int], bytes], read: int) -> None:
    assert_linear_cpu(_decoded(make, read), 64)


def _translated(events: Callable[[int], Iterable[bytes]]) -> Callable[[int], Work]:
    """Return what prepares a translated stream whose events come in one read."""

    def prepare(size: int) -> Work:
        received = (
            b"".join(b"data: " + event + b"\n\n" for event in events(size)) + b"data: [DONE]\n\n"
        )

        async def read_all() -> None:
            translator = StreamTranslator(answer_spec())
            stream = TranslatedStream(
                cast("UpstreamResponse", _Reply([received])),
                translator,
                APIS["chat_completions"],
                "req_1",
                threads=TranslationThreads(),
                on_read=None,
                on_end=lambda _: None,
            )
            await stream.start()
            async for _ in stream:
                pass

        return lambda: asyncio.run(read_all())

    return prepare


def _saying(text: bytes) -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"%b"}}]}' % text


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            lambda size: [_saying(b"a"), *[b""] * size], id="empty-events-behind-a-known-form"
        ),
        pytest.param(
            lambda size: islice(cycle([_saying(b"a"), _saying(b"b"), _saying(b'c","x":"y')]), size),
            id="two-strings",
        ),
    ],
)
def test_events_of_one_read(events: Callable[[int], Iterable[bytes]]) -> None:
    assert_linear_cpu(_translated(events), 500)


def _passed(reads: Callable[[int], Iterator[bytes]]) -> Callable[[int], Work]:
    def prepare(size: int) -> Work:
        async def read_all() -> None:
            usage: list[bytes] = []
            stream = PassthroughStream(
                cast("UpstreamResponse", _Reply(reads(size))),
                UpstreamIdentity("up"),
                "req_1",
                on_read=None,
                on_end=lambda ended: usage.append(ended.usage_events),
            )
            try:
                await stream.start()
                async for _ in stream:
                    pass
            except ApiError:
                await stream.aclose()

        return lambda: asyncio.run(read_all())

    return prepare


_BEGINNING = b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n'
_USAGE = (
    b"event: message_delta\ndata: "
    + dumps({"type": "message_delta", "usage": {"output_tokens": 1}})
    + b"\n\n"
)


_CALL_START = encode_event(events.block_start(0, {"type": "tool_use", "input": {}}))
_ARGUMENTS = encode_event(
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"a":["\\\\'},
    }
)


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param(
            lambda size: iter([_CALL_START, *[_ARGUMENTS] * size]), id="the-input-of-a-tool-call"
        ),
        pytest.param(
            lambda size: (b": x" * 20 + b"\n\n" for _ in range(size)),
            id="comments-before-any-content",
        ),
        pytest.param(lambda size: iter([_BEGINNING, *[_USAGE] * size]), id="usage-in-each-event"),
        pytest.param(lambda size: iter([_BEGINNING, *[b"x" * 1024] * size]), id="one-long-line"),
        pytest.param(
            lambda size: iter([_BEGINNING + b'event: x\ndata: {"type":"x","error":1}\n\n' * size]),
            id="errors-within-events",
        ),
        pytest.param(
            lambda size: iter(
                [b'data: {"type":"ping"}\n' * size, *[b'data: {"type":"ping"}\n'] * size]
            ),
            id="events-without-names",
        ),
    ],
)
def test_passed_streams(
    reads: Callable[[int], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anthropic_proxy.gateway.streams.passthrough.FIRST_CONTENT_SECONDS", 600)
    assert_linear_cpu(_passed(reads), 500)


def test_an_upstream_that_never_pauses_is_passed_on_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time to the first content also limits an upstream that sends comments without an end."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.passthrough.FIRST_CONTENT_SECONDS", 0)
    read: list[bytes] = []

    def comments() -> Iterator[bytes]:
        while True:
            read.append(b": x\n\n")
            yield read[-1]

    async def first() -> bytes:
        stream = PassthroughStream(
            cast("UpstreamResponse", _Reply(comments())),
            UpstreamIdentity("up"),
            "req_1",
            on_read=None,
            on_end=lambda _: None,
        )
        await stream.start()
        return await anext(stream)

    assert asyncio.run(first()) == b"".join(read)
