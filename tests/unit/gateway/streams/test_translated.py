"""A translated stream, without a network: reads give the events of their chunks, one by one."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.errors import TYPE_BY_STATUS, ApiError
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.cases import cases, texts
from tests.support.response_specs import answer_spec
from tests.support.splits import byte_by_byte, random_splits, whole
from tests.support.streams import LOOK, MARKED, translate_stream, wire

Json = dict[str, Any]

_PLAIN = st.sampled_from(["Hello", ",", " world", '"', "\\", "\n", "é", "😀", "\ud83d", " "])


class Reply:
    """An upstream's answer in the given reads."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, reads: Iterable[bytes]) -> None:
        self._reads = iter([read for read in reads if read])

    async def read_available(self, _: float) -> bytes | None:
        return next(self._reads, None)

    async def aclose(self) -> None:
        """There is nothing to give back."""


def streamed(reads: Iterable[bytes], request: Json | None = None) -> list[list[Json]]:
    """The events of each read."""

    async def events() -> list[list[Json]]:
        reply, translator = (
            cast("UpstreamResponse", Reply(reads)),
            StreamTranslator(answer_spec(request)),
        )
        stream = TranslatedStream(
            reply,
            translator,
            APIS["chat_completions"],
            "req_1",
            threads=TranslationThreads(),
            on_read=None,
            on_end=lambda _: None,
        )
        await stream.start()
        return [batch async for batch in stream]

    return asyncio.run(events())


def joined(events: Iterable[Json]) -> list[Json]:
    """The events, with one delta for texts that follow one another."""
    out: list[Json] = []
    for event in events:
        if _is_text(event) and out and _is_text(out[-1]):
            text = out[-1]["delta"]["text"] + event["delta"]["text"]
            out[-1] = {**event, "delta": {"type": "text_delta", "text": text}}
        else:
            out.append(event)
    return out


def _is_text(event: Json) -> bool:
    return event["type"] == "content_block_delta" and bool(event["delta"]["type"] == "text_delta")


def saying(text: str, **fields: Any) -> Json:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return {"id": "1", "object": "chat.completion.chunk", "choices": [choice], **fields}


END = {
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5},
}


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@given(
    pieces=st.lists(st.tuples(_PLAIN | MARKED, st.booleans()), max_size=30),
    request=st.sampled_from([None, LOOK, {"stop_sequences": ["lo, wor"]}]),
)
def test_texts_are_translated_one_by_one_or_together(
    split: Any, pieces: list[tuple[str, bool]], request: Json | None
) -> None:
    chunks = [saying(text, created=int(is_later)) for text, is_later in pieces]
    raw = wire([*chunks, END], done=True)
    events, _ = translate_stream(whole(raw), request)
    assert joined(event for batch in streamed(split(raw), request) for event in batch) == joined(
        events
    )


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("case", [case for case in cases("streams") if "error" not in case])
def test_case(case: Json, split: Any) -> None:
    raw = wire(case["chunks"], done=case["done"])
    events, error = translate_stream(whole(raw), case.get("request"))
    if error is None:
        batches = streamed(split(raw), case.get("request"))
        told = [event for batch in batches for event in batch]
        grammar.check(told)
        assert joined(told) == joined(events)


def test_texts_that_came_together_are_one_delta() -> None:
    words = [saying(" w") for _ in range(100)]
    batches = streamed(
        [wire(words[:2], done=False), wire(words[2:], done=False), wire([END], done=True)]
    )
    told = [event["delta"]["text"] for event in batches[1]]
    assert told == [" w" * 98]
    assert batches[-1][-2]["usage"]["output_tokens"] == 100


def test_a_chunk_that_is_none_ends_what_it_follows() -> None:
    broken = dumps(saying("a")).replace(b'"a"', b'"\\x"')
    rest = (
        wire([saying("b"), saying("c")], done=False)
        + b"data: "
        + broken
        + b"\n\n"
        + wire([END], done=True)
    )
    told = [event for batch in streamed([wire([saying("a")], done=False), rest]) for event in batch]
    assert [event["delta"]["text"] for event in told if _is_text(event)] == ["a", "bc"]
    assert told[-1]["type"] == "error"


class _SilentReply(Reply):
    """Sends nothing after its reads, and leaves the connection open."""

    async def read_available(self, _: float) -> bytes | None:
        return next(self._reads, b"")


def test_a_complete_message_ends_although_the_connection_stays_open() -> None:
    async def events() -> list[Json]:
        stream = TranslatedStream(
            cast("UpstreamResponse", _SilentReply([wire([saying("a"), END], done=False)])),
            StreamTranslator(answer_spec(None)),
            APIS["chat_completions"],
            "req_1",
            threads=TranslationThreads(),
            on_read=None,
            on_end=lambda _: None,
        )
        await stream.start()
        return [event async for batch in stream for event in batch]

    received = asyncio.run(events())
    grammar.check(received)
    assert received[-1]["type"] == "message_stop"


_SPLITS = pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
_TEXT = b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'
_DONE = b"data: [DONE]\n\n"


def _fail(read: Any, data: bytes) -> tuple[int, str]:
    """Return the status and the message of the error that the data causes.

    It is raised before the first content, and an `error` event after it.
    """
    try:
        events = [event for batch in streamed(read(data)) for event in batch]
    except ApiError as error:
        return error.status, error.message
    *others, last = events
    assert last["type"] == "error"
    assert not any(event["type"] in ("message_delta", "message_stop") for event in others)
    statuses = {name: status for status, name in TYPE_BY_STATUS.items()}
    return statuses[last["error"]["type"]], last["error"]["message"]


@_SPLITS
@pytest.mark.parametrize("case", texts("errors_in_responses"))
def test_an_error_in_a_stream(split: Any, case: Json) -> None:
    payload = dumps(case["payload"])
    expected = (case["status"], case["message"])
    error = b"data: %b\n\n" % payload
    for data in (
        error,
        error + _DONE,
        _TEXT + error + _DONE,
        b"event: error\n" + error,
        _TEXT + b"event: error\n" + error + _DONE,
        # Without the format of an event.
        payload,
        payload + b"\n\n",
        _TEXT + payload + b"\n\n" + _DONE,
    ):
        assert _fail(split, data) == expected


@_SPLITS
def test_a_text_in_place_of_a_stream(split: Any) -> None:
    assert _fail(split, b"Too many requests\n") == (429, "Too many requests")
    assert _fail(split, _TEXT + b"worker died\n\n") == (500, "worker died")
    assert _fail(split, b"event: error\ndata: worker died\n\n") == (500, "worker died")
    indented = b'{\n  "error": {\n    "code": 503,\n    "message": "busy"\n  }\n}\n'
    assert _fail(split, _TEXT + indented) == (529, "busy")


@_SPLITS
def test_a_text_beside_a_complete_response_is_skipped(split: Any) -> None:
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    for data in (b"a note\n\n" + _TEXT + end + _DONE, _TEXT + end + b'{"usage": {}}\n\n'):
        events = [event for batch in streamed(split(data)) for event in batch]
        assert events[-1]["type"] == "message_stop"


def test_only_the_beginning_of_a_text_is_kept() -> None:
    text = b"x" * 9000 + b"\n\n"
    status, message = _fail(whole, text * 9)
    assert status == 500
    assert message.startswith("xxx")
