"""A Message becomes the events of a stream, and the events become the same Message."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.translate.passthrough_conversion import to_events, to_message
from tests.support import grammar

Json = dict[str, Any]

_CITATION = {"type": "char_location", "cited_text": "a", "document_index": 0}
_BLOCKS: dict[str, Json] = {
    "text": {"type": "text", "text": "Hello"},
    "empty text": {"type": "text", "text": ""},
    "citations": {"type": "text", "text": "a", "citations": [_CITATION, {**_CITATION, "x": 1}]},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
    "redacted": {"type": "redacted_thinking", "data": "abc"},
    "call": {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
    "call without input": {"type": "tool_use", "id": "toolu_1", "name": "Now", "input": {}},
    "server call": {"type": "server_tool_use", "id": "s", "name": "w", "input": {"q": [1, "é"]}},
    "server result": {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"a": 1}]},
    "compaction": {"type": "compaction", "content": "Summary"},
    "unknown": {"type": "new_kind", "value": {"a": [1]}},
}


def _message(*content: Json, **fields: Any) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 1},
        **fields,
    }


_MESSAGES = {
    **{name: _message(block) for name, block in _BLOCKS.items()},
    "all": _message(*_BLOCKS.values()),
    "empty": _message(),
    "stop sequence": _message(stop_reason="stop_sequence", stop_sequence="END"),
    "refusal": _message(stop_reason="refusal", stop_details={"type": "refusal"}),
    "container": _message(container={"id": "c"}),
    "edits": _message(context_management={"applied_edits": []}),
    "unknown member": _message(new={"a": 1}),
}


@pytest.mark.parametrize("message", _MESSAGES.values(), ids=_MESSAGES)
def test_round_trip(message: Json) -> None:
    assert to_message(to_events(message)) == message


def test_the_events_are_those_of_a_stream() -> None:
    events = list(to_events(_message(*_BLOCKS.values())))
    grammar.check([events[0], {"type": "ping"}, *events[1:]])
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["usage"]["output_tokens"] == 0
    assert events[-2]["usage"]["output_tokens"] == 2


def test_members_that_clients_require_are_added() -> None:
    start, delta, stop = to_events({"content": []})
    assert start["message"] == {
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    assert delta["delta"] == {"stop_reason": None, "stop_sequence": None}
    assert stop == {"type": "message_stop"}


def _start(**block: Any) -> list[Json]:
    message = _message(stop_reason=None)
    return [
        {"type": "message_start", "message": message},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]


def _delta(**delta: Any) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def _end(stop_reason: str, **usage: Any) -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def test_usage_without_a_value_does_not_replace_a_value() -> None:
    events = [*_start(type="text", text="a"), _end("end_turn", input_tokens=None, output_tokens=7)]
    usage = to_message(events)["usage"]
    assert usage == {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 1}


_HALF = _delta(type="input_json_delta", partial_json='{"a":1,"command":"rm -rf bui')
_CALL = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}


def test_half_a_call_is_no_call() -> None:
    with pytest.raises(TruncatedError):
        to_message([*_start(**_CALL), _HALF, _end("tool_use")])


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
def test_a_limit_or_a_refusal_may_cut_a_call(stop_reason: str) -> None:
    message = to_message([*_start(**_CALL), _HALF, _end(stop_reason)])
    assert message["content"][0]["input"] == {"a": 1}


@pytest.mark.parametrize("stream", [[], _start(type="text", text="a")[1:], [_end("end_turn")]])
def test_a_stream_without_a_beginning_is_an_error(stream: list[Json]) -> None:
    with pytest.raises(ApiError, match="without the beginning"):
        to_message(stream)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "a"}},
        _delta(type="new_delta", value=1),
        _delta(type="text_delta"),
        {"type": "content_block_delta", "index": 0, "delta": "a"},
        {"type": "content_block_start", "index": 1},
        {"type": "message_start"},
        {"type": "message_delta"},
    ],
)
def test_an_event_that_cannot_be_read_is_an_error(event: Json) -> None:
    with pytest.raises(ApiError, match="invalid event"):
        to_message([*_start(type="text", text=""), event])
