"""The end of a passed-through stream, without a network."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any, cast

import pytest

from anthropic_proxy.errors import TYPE_BY_STATUS, ApiError
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.translate.passthrough_conversion import to_events
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamResponse
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import dumps, loads
from anthropic_proxy.wire.sse import encode_event
from tests.support.splits import byte_by_byte, random_splits, whole

_START = b'event: message_start\ndata: {"type":"message_start"}\n\n'
_BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n'
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"text":"event: message_stop\\n\\n"}}\n\n'
)
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_ERROR = b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"a"}}\n\n'


class _OpenResponse:
    """Keeps the connection open after its reads."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    status = 200

    def __init__(self, reads: Iterable[bytes]) -> None:
        self._reads = filter(None, reads)
        self.is_released = False

    def end_first_token_limit(self) -> None:
        """Do nothing: the reads have no time limit."""

    def limit_size(self) -> None:
        """There is no limit."""

    async def read(self, beginning: bytes) -> bytes:
        return beginning + b"".join(self._reads)

    async def read_available(self, _: float) -> bytes | None:
        read = next(self._reads, None)
        assert read is not None, "reads after the end of the message"
        return read

    async def release(self) -> None:
        self.is_released = True

    async def aclose(self) -> None:
        raise AssertionError("the connection is not reused")


class _ClosingResponse(_OpenResponse):
    """Closes the connection after its reads."""

    async def read_available(self, _: float) -> bytes | None:
        return next(self._reads, None)

    async def aclose(self) -> None:
        """The connection is closed."""


class _BrokenResponse(_ClosingResponse):
    """Breaks the connection after its reads."""

    async def read_available(self, until: float) -> bytes | None:
        read = await super().read_available(until)
        if read is None:
            raise UpstreamError(500, "reset", "body")
        return read


class _QuietResponse(_ClosingResponse):
    """Sends only heartbeats after its reads, or nothing."""

    heartbeat = b""

    async def read_available(self, until: float) -> bytes | None:
        return await super().read_available(until) or self.heartbeat


class _HeartbeatResponse(_QuietResponse):
    heartbeat = b": hb\n\n"


_ENDS = [_ClosingResponse, _BrokenResponse, _QuietResponse, _HeartbeatResponse]


def _create_stream(response: _OpenResponse) -> PassthroughStream:
    return PassthroughStream(
        cast("UpstreamResponse", response),
        UpstreamIdentity("up"),
        "req_1",
        on_read=None,
        on_end=lambda _: None,
    )


def _passed(reads: Iterable[bytes], kind: type[_OpenResponse] = _OpenResponse) -> bytes:
    async def read_all() -> bytes:
        response = kind(reads)
        stream = _create_stream(response)
        await stream.start()
        batches = [batch async for batch in stream]
        assert response.is_released or kind is not _OpenResponse
        return b"".join(batches)

    return asyncio.run(read_all())


def _collected(reads: Iterable[bytes], kind: type[_OpenResponse] = _OpenResponse) -> Any:
    async def read() -> bytes:
        return await _create_stream(kind(reads)).read_message()

    return loads(asyncio.run(read()))


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("last", [_STOP, _ERROR, _STOP.replace(b": ", b":")])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("rest", [b"", b": hb\n\n", b"data: [DONE]\n\n", _STOP, b"event: pi"])
def test_the_last_event_ends_the_stream(
    rest: bytes, line_end: bytes, last: bytes, split: Any
) -> None:
    message = (_START + _BLOCK + _DELTA + last).replace(b"\n", line_end)
    assert _passed(split(message + rest.replace(b"\n", line_end))) == message


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"message":"died","code":502}', "died"),
        (b'{"detail":"died"}', "died"),
        (b"died", "died"),
        (b'{"type":"error","error":{"type":"api_error","message":"died"}}', "died"),
        (b"{}", "without an error message"),
    ],
)
def test_an_error_before_the_first_content_keeps_its_words(
    data: bytes, message: str, split: Any
) -> None:
    with pytest.raises(ApiError, match=message):
        _passed(split(_START + b"event: error\ndata: " + data + b"\n\n"))


_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "text", "text": 'A "quoted" word\nevent: message_stop\n\n'},
        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
_EVENTS = [encode_event(event) for event in to_events(_MESSAGE)]
_WHOLE = b"".join(_EVENTS)
_WITHOUT_STOP = b"".join(_EVENTS[:-1])

# Streams of the same message, in the forms that gateways send.
_FORMS = {
    "regular": _WHOLE,
    "no message_stop": _WITHOUT_STOP,
    "no message_stop, done": _WITHOUT_STOP + b"data: [DONE]\n\n",
    "done": _WHOLE + b"data: [DONE]\n\n",
    "done before message_stop": _WITHOUT_STOP + b"data: [DONE]\n\n" + _EVENTS[-1],
    "no empty line": _WHOLE.rstrip(),
    "no message_stop, no empty line": _WITHOUT_STOP.rstrip(),
    "no empty lines": _WHOLE.replace(b"\n\n", b"\n"),
    "no empty lines, no message_stop": _WITHOUT_STOP.replace(b"\n\n", b"\n"),
    "no names": b"".join(event.partition(b"\n")[2] for event in _EVENTS),
    "only data": b"".join(event.partition(b"\n")[2].replace(b"\n\n", b"\n") for event in _EVENTS),
    "only data, done": (
        b"".join(event.partition(b"\n")[2] for event in _EVENTS[:-1]) + b"data: [DONE]\n"
    ),
    "a Message": dumps(_MESSAGE),
    "a Message after white space": b"\n \n" + dumps(_MESSAGE) + b"\n",
}


# The last event breaks off, and nothing follows.
_HALVES = [_WITHOUT_STOP + _EVENTS[-1][:size] for size in (12, 20, 30)]


def _pass_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.gateway.streams.passthrough.USAGE_SECONDS", 0)


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("kind", _ENDS)
@pytest.mark.parametrize("raw", _FORMS.values(), ids=_FORMS)
def test_forms_of_a_message(
    raw: bytes, kind: type[_OpenResponse], split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pass_time(monkeypatch)
    if kind is _HeartbeatResponse and not raw.endswith(b"\n"):
        raw += b"\n"
    passed = _passed(split(raw), kind)
    assert re.sub(rb"(?<=\n\n): hb\n\n|: hb\n", b"", passed) == _WHOLE
    assert _collected(split(raw), kind) == _MESSAGE


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("kind", [_ClosingResponse, _BrokenResponse, _QuietResponse])
@pytest.mark.parametrize("raw", _HALVES)
def test_half_of_the_last_event(
    raw: bytes, kind: type[_OpenResponse], split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pass_time(monkeypatch)
    assert _passed(split(raw), kind) == _WHOLE
    assert _collected(split(raw), kind) == _MESSAGE


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("form", ["regular", "no message_stop, done", "no names", "a Message"])
def test_the_end_of_the_protocol_needs_no_time(form: str, split: Any) -> None:
    assert _passed(split(_FORMS[form])) == _WHOLE
    assert _collected(split(_FORMS[form])) == _MESSAGE


def test_message_stop_may_follow_the_stop_reason_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads between them that come within the limit change nothing."""
    monkeypatch.setattr("anthropic_proxy.gateway.streams.passthrough.USAGE_SECONDS", 3600)
    stop = _EVENTS[-1].replace(b'{"type":', b'{ "type" :')
    assert _passed([_WITHOUT_STOP, b": hb\n\n", stop]) == _WITHOUT_STOP + b": hb\n\n" + stop


# Without a stop reason, the end of the input does not end the message.
_INCOMPLETE = {
    "no message_delta": b"".join(_EVENTS[:-2]),
    "done": b"".join(_EVENTS[:-2]) + b"data: [DONE]\n\n",
    "half a message_delta": b"".join(_EVENTS[:-2]) + _EVENTS[-2][:40],
    "no stop reason": b"".join(_EVENTS[:-2])
    + encode_event(events.message_delta({"stop_reason": None}, {"output_tokens": 1})),
    "no content": _EVENTS[0],
    "nothing": b"",
    "heartbeats": b": hb\n\n",
}


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("kind", [_ClosingResponse, _BrokenResponse])
@pytest.mark.parametrize("raw", _INCOMPLETE.values(), ids=_INCOMPLETE)
def test_an_incomplete_message_is_an_error(
    raw: bytes, kind: type[_OpenResponse], split: Any
) -> None:
    with pytest.raises(ApiError):
        _collected(split(raw), kind)
    if raw.count(b"content_block") == 0:
        with pytest.raises(ApiError):
            _passed(split(raw), kind)
    else:
        passed = _passed(split(raw), kind)
        assert passed.startswith(b"".join(_EVENTS[:-2]))
        assert b"event: error" in passed
        assert b"message_stop" not in passed.replace(b"event: message_stop\\n", b"")


def _call_stream(parts: list[str], stop_reason: str | None, *, with_block_stop: bool) -> bytes:
    """Return a stream with a text and a tool call whose input has these parts."""
    block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
    stream_events = [events.block_start(1, block)]
    for part in parts:
        delta = {"type": "input_json_delta", "partial_json": part}
        stream_events.append({"type": "content_block_delta", "index": 1, "delta": delta})
    if with_block_stop:
        stream_events.append(events.block_stop(1))
    if stop_reason != "none":
        stream_events.append(
            events.message_delta({"stop_reason": stop_reason}, {"output_tokens": 1})
        )
    stream_events.append(events.message_stop())
    return b"".join(_EVENTS[:-2]) + b"".join(map(encode_event, stream_events))


# With these, the SDKs would run the tool with a part of the input.
_HALF_INPUTS = [
    ['{"command":"rm -rf build && mk'],
    ['{"comm', 'and":"rm -rf ', "build && mk"],
    ['{"command":"ls"'],
    ['{"command":"ls \\"'],
    ['{"command":"ls","options":[{"a":1}'],
    ['{"command":'],
    ["{"],
    ["", " ", '{"command":"ls'],
]
_COMPLETE_INPUTS = [
    [],
    [""],
    ["", "{}"],
    ['{"command":"ls \\"}{', '"}'],
    ['{"command":"ls', '"}', "\n"],
    ['{"command":"\ud83d"}'],
    # The SDKs reject these, or read them completely.
    ["ls -la"],
    ["null"],
    ['"{\\"command\\":\\"ls\\"}"'],
]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", None, "none"])
@pytest.mark.parametrize("with_block_stop", [True, False])
@pytest.mark.parametrize("parts", _HALF_INPUTS)
def test_an_incomplete_tool_call_is_an_error(
    parts: list[str], with_block_stop: bool, stop_reason: str | None, split: Any
) -> None:
    raw = _call_stream(parts, stop_reason, with_block_stop=with_block_stop)
    passed = _passed(split(raw), _ClosingResponse)
    forwarded, _, error = passed.rpartition(b"event: error")
    assert raw.startswith(forwarded)
    assert loads(error.partition(b"data: ")[2])["error"]["message"] == (
        "The upstream sent an incomplete tool call"
    )
    assert b'"stop_reason":"' not in forwarded
    with pytest.raises(ApiError, match="incomplete tool call"):
        _collected(split(raw), _ClosingResponse)


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    ("parts", "stop_reason"),
    [(parts, "tool_use") for parts in _COMPLETE_INPUTS]
    + [
        (parts, stop_reason)
        for parts in _HALF_INPUTS
        for stop_reason in ("max_tokens", "model_context_window_exceeded", "refusal")
    ],
)
def test_other_tool_calls_are_forwarded(parts: list[str], stop_reason: str, split: Any) -> None:
    raw = _call_stream(parts, stop_reason, with_block_stop=True)
    assert _passed(split(raw)) == raw


def test_an_incomplete_call_before_a_complete_one_is_an_error() -> None:
    raw = _call_stream(['{"command":"rm'], "tool_use", with_block_stop=True)
    other = _call_stream(['{"command":"ls"}'], "tool_use", with_block_stop=True)
    beginning, call = b"".join(_EVENTS[:-2]), other[len(b"".join(_EVENTS[:-2])) :]
    half = raw[len(beginning) :].partition(b"event: message_delta")[0]
    assert b"incomplete tool call" in _passed([beginning + half, call], _ClosingResponse)


# Errors in other forms than that of the API, with the text and the status.
_ERRORS = [
    (b'event: error\ndata: {"code":0,"msg":"died","success":true}\n\n', 500),
    (b'event: error\ndata: {"code":429,"message":"died"}\n\n', 429),
    (b"event: error\ndata: died\n\n", 500),
    (b'event:error\ndata:{"detail":"died"}\n\n', 500),
    (b'data: {"error":{"message":"died","code":429}}\n\n', 429),
    (b'data: {"error":"died"}\n\n', 500),
    (b'event: message\ndata: {"error":{"message":"died"}}\n\n', 500),
    (
        (
            b"event: error\n"
            b'data: {"type":"error","error":{"type":"overloaded_error","message":"died"}}\n\n'
        ),
        529,
    ),
    (b'data: {"type":"error","error":{"type":"overloaded_error","message":"died"}}\n\n', 529),
    (b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"died"}}', 500),
    # FastAPI, vLLM, GLM.
    (b'data: {"detail":"worker died"}\n\n', 500),
    (b'data: {"detail":"worker died"}\n\ndata: [DONE]\n\n', 500),
    (b'data: {"object":"error","message":"died","code":429}\n\n', 429),
    (b'data: {"code":500,"msg":"died","success":false}\n\n', 500),
]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(("raw", "status"), _ERRORS)
@pytest.mark.parametrize("content_count", [0, 1, 3])
def test_an_error_keeps_its_words_and_class(
    content_count: int, raw: bytes, status: int, split: Any
) -> None:
    raw = b"".join(_EVENTS[:content_count]) + raw
    with pytest.raises(ApiError, match="died") as caught:
        _collected(split(raw), _ClosingResponse)
    assert caught.value.status == status
    if content_count < 2:
        with pytest.raises(ApiError, match="died") as caught:
            _passed(split(raw), _ClosingResponse)
        assert caught.value.status == status
        return
    passed = _passed(split(raw), _ClosingResponse)
    *_, last = filter(None, passed.split(b"\n\n"))
    name, _, data = last.partition(b"\n")
    error = loads(data.removeprefix(b"data:"))
    assert name == b"event: error"
    assert error["type"] == "error"
    assert error["error"]["type"] == TYPE_BY_STATUS[status]
    assert "died" in error["error"]["message"]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"full"}}', 529, "full"),
        (b'{"code":500,"msg":"404 NOT_FOUND","success":false}', 500, "404 NOT_FOUND"),
        (b'{"content":null,"base_resp":{"status_code":1008,"status_msg":"no"}}', 402, "no"),
        (b'{"content":[],"base_resp":{"status_code":1008,"status_msg":"no"}}', 402, "no"),
        (b'{"type":"message","content":[],"error":{"message":"died"}}', 500, "died"),
        (b'{"type":"message","content":[],"success":false,"msg":"died"}', 500, "died"),
        (b'{"error":{"message":"died","type":"rate_limit_error"}}', 429, "died"),
        (b'[{"error":{"message":"died"}}]', 500, "died"),
        (b"{}", 500, "not a message"),
        (b"[]", 500, "not a message"),
        (b'{"content":"text"}', 500, "not a message"),
        (b'{"content":["text"]}', 500, "not a message"),
        (b'{"type":"completion","content":[]}', 500, "not a message"),
        (b'{"choices":[{"message":{"content":"a"}}]}', 500, "not a message"),
        (b'{"type":"message","content":[{"type":"text","text":"a', 500, "text"),
        (b"<html></html>", 500, "not a message"),
    ],
)
def test_a_body_that_is_no_message_is_an_error(
    body: bytes, status: int, text: str, split: Any
) -> None:
    for read in (_passed, _collected):
        with pytest.raises(ApiError, match=text) as caught:
            read(split(body), _ClosingResponse)
        assert caught.value.status == status
