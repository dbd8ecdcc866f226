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
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.cases import cases, texts
from tests.support.odd_bodies import OddBody, odd_bodies
from tests.support.odd_texts import odd_texts
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

    def end_first_token_limit(self) -> None:
        """Do nothing: the reads have no time limit."""

    async def read_available(self, _: float) -> bytes | None:
        return next(self._reads, None)

    async def read(self, beginning: bytes) -> bytes:
        return beginning + b"".join(self._reads)

    async def release(self) -> None:
        """There is nothing to give back."""

    async def aclose(self) -> None:
        """There is nothing to give back."""


def streamed(
    reads: Iterable[bytes], request: Json | None = None, api: str = "chat_completions"
) -> list[list[Json]]:
    """The events of each read."""

    async def events() -> list[list[Json]]:
        reply, translator = (
            cast("UpstreamResponse", Reply(reads)),
            StreamTranslator(answer_spec(request)),
        )
        stream = TranslatedStream(
            reply,
            translator,
            APIS[api],
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


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("body", [*odd_bodies(), *odd_texts()])
def test_a_body_of_any_format(body: OddBody, split: Any) -> None:
    if body.error:
        with pytest.raises(ApiError) as caught:
            _raise_error(streamed(split(body.raw), body.request, body.api))
        assert body.error in caught.value.message
    else:
        events = [
            event for batch in streamed(split(body.raw), body.request, body.api) for event in batch
        ]
        grammar.check(events)
        assert collect_message(events)["content"] == body.content


def _raise_error(batches: list[list[Json]]) -> None:
    """Raise the error at the end of a stream that had begun."""
    last = batches[-1][-1]
    if last["type"] == "error":
        raise ApiError(500, last["error"]["message"])


class _OpenReply(Reply):
    """Keeps the connection open after its reads, with heartbeats or in silence."""

    def __init__(self, reads: Iterable[bytes], heartbeat: bytes) -> None:
        super().__init__(reads)
        self._heartbeat = heartbeat
        # The number of reads after the given reads.
        self.late_reads = 0

    def end_first_token_limit(self) -> None:
        """Do nothing: the reads have no time limit."""

    async def read_available(self, _: float) -> bytes | None:
        read = next(self._reads, None)
        if read is None:
            self.late_reads += 1
            assert self.late_reads < 100, "waits for the end of the connection"
            return self._heartbeat
        return read


def open_streamed(
    reads: Iterable[bytes],
    *,
    api: str = "chat_completions",
    heartbeat: bytes = b": hb\n\n",
    request: Json | None = None,
) -> tuple[list[Json], int]:
    """The events of an open connection, and the number of late reads."""
    reply = _OpenReply(reads, heartbeat)

    async def read_all() -> list[Json]:
        stream = TranslatedStream(
            cast("UpstreamResponse", reply),
            StreamTranslator(answer_spec(request)),
            APIS[api],
            "req_1",
            threads=TranslationThreads(),
            on_read=None,
            on_end=lambda _: None,
        )
        await stream.start()
        return [event async for batch in stream for event in batch]

    received = asyncio.run(read_all())
    grammar.check(received)
    return received, reply.late_reads


_USAGE: Json = {"prompt_tokens": 5, "completion_tokens": 2}
_FINISH: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_HEARTBEATS = [b"", b": hb\n\n", b'data: {"choices":[]}\n\n', b"event: ping\ndata:\n\n"]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("heartbeat", _HEARTBEATS)
@pytest.mark.parametrize(
    "chunks",
    [
        [saying("a"), {**_FINISH, "usage": _USAGE}],
        [saying("a"), _FINISH, {"choices": [], "usage": _USAGE}],
        [saying("a"), _FINISH, {**_FINISH, "usage": _USAGE}],
        [saying("a", usage={"prompt_tokens": 5}), {**_FINISH, "usage": _USAGE}],
    ],
    ids=["together", "separate", "repeated", "in each chunk"],
)
def test_finish_reason_and_usage_end_a_response_at_once(
    chunks: list[Json], heartbeat: bytes, split: Any
) -> None:
    received, late_reads = open_streamed(split(wire(chunks, done=False)), heartbeat=heartbeat)
    assert late_reads == 0
    assert received[-2]["usage"]["output_tokens"] == 2


def _pass_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the limits of the wait after a finish reason pass at once."""
    for limit in ("SILENCE_SECONDS", "USAGE_SECONDS"):
        monkeypatch.setattr(f"anthropic_proxy.gateway.streams.translated.{limit}", 0)


@pytest.mark.parametrize("heartbeat", _HEARTBEATS)
@pytest.mark.parametrize(
    "chunks",
    [
        [saying("a"), _FINISH],
        # The usage may be that of a part of the response.
        [saying("a", usage=_USAGE), _FINISH],
        # Content may follow.
        [{**_FINISH, "usage": _USAGE}],
        [{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": _USAGE}],
    ],
    ids=["no usage", "usage before", "no content", "content beside it"],
)
def test_other_responses_wait_for_usage(
    chunks: list[Json], heartbeat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pass_time(monkeypatch)
    received, late_reads = open_streamed([wire(chunks, done=False)], heartbeat=heartbeat)
    assert late_reads == 1
    assert received[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
def test_content_after_a_finish_reason_is_not_lost(split: Any) -> None:
    """Gateways for Gemini send a finish reason and usage with each piece."""
    pieces = [
        {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}], "usage": _USAGE}
        for text in "abc"
    ]
    received, _ = open_streamed(split(wire([*pieces, _FINISH], done=True)))
    texts = [event["delta"]["text"] for event in received if _is_text(event)]
    assert "".join(texts) == "abc"


@pytest.mark.parametrize("heartbeat", _HEARTBEATS)
@pytest.mark.parametrize("usage", [None, _USAGE, {"prompt_tokens": 0}])
@pytest.mark.parametrize(
    "chunks",
    [
        # The server does not send a finish reason with each piece.
        [saying("a"), {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}],
        [
            {"choices": [{"delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"delta": {"content": "b"}, "finish_reason": "length"}]},
        ],
        # The complete response in one event.
        [{"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}],
        [{"choices": [{"message": {"content": "ab"}, "delta": {}, "finish_reason": "stop"}]}],
    ],
)
def test_content_beside_the_finish_reason_ends_after_a_second(
    chunks: list[Json], usage: Json | None, heartbeat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the shorter one of the two limits passes."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.translated.USAGE_SECONDS", 0)
    chunks = [*chunks[:-1], {**chunks[-1], "usage": usage}]
    received, late_reads = open_streamed([wire(chunks, done=False)], heartbeat=heartbeat)
    assert late_reads == 1
    assert any("b" in event["delta"]["text"] for event in received if _is_text(event))


def test_content_after_it_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the limit, the wait begins again with each content."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.translated.USAGE_SECONDS", 3600)
    last = {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}], "usage": _USAGE}
    reads = [wire([saying("a"), last], done=False), _PAUSE, wire([last], done=True)]
    received, _ = open_streamed(reads)
    texts = [event["delta"]["text"] for event in received if _is_text(event)]
    assert "".join(texts) == "abb"


_PAUSE = b": hb\n\n"
_ZEROS = {"prompt_tokens": 0, "completion_tokens": 0}


def _piece(text: str, **fields: Any) -> Json:
    """A piece of Gemini's gateways, with a finish reason."""
    return {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}], **fields}


_SIGNATURE_DETAIL = {"type": "reasoning.encrypted", "data": "c2ln", "index": 0}
_SIGNATURE: Json = {
    "choices": [{"delta": {"reasoning_details": [_SIGNATURE_DETAIL]}, "finish_reason": "stop"}]
}


@pytest.mark.parametrize("usage", [None, _USAGE])
@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", None], ids=["done", "closed"])
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([_piece("hello")], "hello world"),
        ([_piece("hello"), _piece("")], "hello world"),
        ([_piece("hello"), _SIGNATURE], "hello world"),
        ([_piece("")], " world"),
        ([_SIGNATURE], " world"),
    ],
)
def test_a_pause_after_a_piece_with_a_finish_reason(
    pieces: list[Json],
    text: str,
    end: bytes | None,
    usage: Json | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the limit without such pieces passes in the pause."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.translated.USAGE_SECONDS", 0)
    reads = [wire([{**piece, "usage": usage}], done=False) for piece in pieces]
    reads += [_PAUSE, wire([_piece(" world", usage=usage)], done=False), _PAUSE]
    if end is None:
        received = [event for batch in streamed(reads) for event in batch]
    else:
        received, _ = open_streamed([*reads, end])
    assert collect_message(received)["content"][-1]["text"] == text
    assert received[-1]["type"] == "message_stop"


def test_a_call_follows_its_finish_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claude models of GitHub Copilot send the text and the call in different choices."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.translated.USAGE_SECONDS", 0)
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    call = {"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}
    choice = {"index": 1, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    reads = [wire([each], done=False) for each in (saying("a"), {**finish, "usage": _USAGE})]
    received, _ = open_streamed(
        [*reads, _PAUSE, wire([{"choices": [choice]}], done=True)], request=LOOK
    )
    assert [block["type"] for block in collect_message(received)["content"]] == ["text", "tool_use"]


def test_a_usage_of_zeros_does_not_end_a_response() -> None:
    chunks = [saying("a"), {**_FINISH, "usage": _ZEROS}, {"choices": [], "usage": _USAGE}]
    received, late_reads = open_streamed(byte_by_byte(wire(chunks, done=False)))
    assert (received[-2]["usage"]["output_tokens"], late_reads) == (2, 0)


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("last", [saying("b"), {"choices": [], "usage": {}}, {"error": "a"}])
def test_what_follows_the_end_is_ignored(last: Json, split: Any) -> None:
    chunks = [saying("a"), {**_FINISH, "usage": _USAGE}]
    events, _ = open_streamed(split(wire(chunks, done=False)))
    received, late_reads = open_streamed(split(wire([*chunks, last], done=True)))
    assert (received, late_reads) == (events, 0)


@pytest.mark.parametrize("end", [None, b""], ids=["closed", "open"])
def test_an_incomplete_event_after_the_finish_reason_is_dropped(
    end: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anthropic_proxy.gateway.streams.translated.USAGE_SECONDS", 0)
    raw = wire([saying("a"), _FINISH], done=False)
    usage = b'data: {"choices":[],"usage":{"completion_tokens":2}}'
    for rest, output_tokens in ((b'data: {"choices":[],"usa', 1), (usage, 2)):
        if end is None:
            received = [event for batch in streamed([raw + rest]) for event in batch]
        else:
            received, _ = open_streamed([raw + rest], heartbeat=end)
        assert received[-1]["type"] == "message_stop"
        assert received[-2]["usage"]["output_tokens"] == output_tokens


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("heartbeat", _HEARTBEATS)
@pytest.mark.parametrize("end", ["completed", "incomplete"])
@pytest.mark.parametrize("usage", [None, {"input_tokens": 5, "output_tokens": 2}])
@pytest.mark.parametrize("text", ["a", ""])
def test_the_last_event_ends_a_response_at_once(
    text: str, usage: Json | None, end: str, heartbeat: bytes, split: Any
) -> None:
    events: list[Json] = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": text},
        {"type": f"response.{end}", "response": {"status": end, "output": [], "usage": usage}},
    ]
    received, late_reads = open_streamed(
        split(wire(events, done=False)), api="responses", heartbeat=heartbeat
    )
    assert late_reads == 0
    expected = {"completed": "end_turn", "incomplete": "max_tokens"}[end]
    assert received[-2]["delta"]["stop_reason"] == expected


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'event: error\ndata: {"message":"died","code":502}\n\n', "died"),
        (b'event:error\r\ndata:{"message":"died","code":502}\r\n\r\n', "died"),
        (b'data: {"message":"died","code":502}\nid: 1\nevent: error\n\n', "died"),
        (b'event: error\ndata: {"detail":"died"}\n\n', "died"),
        (b'event: error\ndata: {"error":"died"}\n\n', "died"),
        (b'event: error\ndata: {"error":{"message":"died"}}\n\n', "died"),
        (b'event: error\ndata: {"type":"error","message":"died"}\n\n', "died"),
        (b'event: error\ndata: "died"\n\n', "died"),
        (b"event: error\ndata: died\n\n", "died"),
        (b'event: error\ndata: {"message":"died"}', "died"),
        (b"event: error\ndata: {}\n\n", "without an error message"),
        (b"event: error\ndata:\n\n", "without an error message"),
        (b"event: error\n\n", "without an error message"),
    ],
)
def test_an_event_that_is_named_error(event: bytes, message: str, api: str, split: Any) -> None:
    text = {
        "chat_completions": saying("a"),
        "responses": {"type": "response.output_text.delta", "output_index": 0, "delta": "a"},
    }[api]
    raw = wire([text], done=False) + event

    async def read_all() -> ApiError | None:
        stream = TranslatedStream(
            cast("UpstreamResponse", Reply(split(raw))),
            StreamTranslator(answer_spec(None)),
            APIS[api],
            "req_1",
            threads=TranslationThreads(),
            on_read=None,
            on_end=lambda _: None,
        )
        try:
            await stream.start()
        except ApiError as error:
            # The error arrived together with the first content.
            return error
        received = [event async for batch in stream for event in batch]
        grammar.check(received)
        assert received[-1]["type"] == "error"
        return stream.error

    error = asyncio.run(read_all())
    assert error is not None
    assert message in error.message


def test_text_about_errors_is_no_error() -> None:
    texts = ["event: error", "\nevent: error\n", '{"message":"died"}']
    raw = wire([*map(saying, texts), END], done=True)
    received = [event for batch in streamed([raw]) for event in batch]
    assert received[-1]["type"] == "message_stop"
    named = b"event: message\n" + wire([saying("a")], done=False)
    received = [event for batch in streamed([named + wire([END], done=True)]) for event in batch]
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
        b"event: error\n" + error,
        # Without the format of an event.
        payload,
        payload + b"\n\n",
        _TEXT + payload + b"\n\n" + _DONE,
    ):
        assert _fail(split, data) == expected
    for data in (_TEXT + error + _DONE, _TEXT + b"event: error\n" + error + _DONE):
        if case.get("refuses"):
            events = [event for batch in streamed(split(data)) for event in batch]
            assert events[-2]["delta"]["stop_details"]["explanation"] == case["message"]
        else:
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


@_SPLITS
@pytest.mark.parametrize(
    "error",
    [
        {"choices": [{"delta": {"content": "lo"}, "error": {"code": 429, "message": "busy"}}]},
        {**saying("lo"), "base_resp": {"status_code": 1002, "status_msg": "busy"}},
    ],
    ids=["OpenRouter", "MiniMax"],
)
def test_an_error_beside_a_text(error: Json, split: Any) -> None:
    assert _fail(split, _TEXT + wire([saying("a"), error], done=True)) == (429, "busy")
