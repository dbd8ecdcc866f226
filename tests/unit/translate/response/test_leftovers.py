"""Content that a server sends twice or leaves over: equal calls, and closing think tags."""

from typing import Any

import pytest

from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message, to_message
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.response_specs import answer_spec
from tests.support.splits import byte_by_byte, random_splits, whole
from tests.support.streams import Json, translate_stream, wire

SCHEMA = {
    "type": "object",
    "properties": {"command": {"type": "string"}, "count": {"type": "integer"}},
}
REQUEST = {
    "tools": [{"name": name, "input_schema": SCHEMA} for name in ("Bash", "Bash2", "Read")],
    "thinking": {"type": "adaptive"},
}
LS: Json = {"command": "ls"}
INVOKE = '<invoke name="Bash"><parameter name="command">ls</parameter></invoke>'
COUNTED = INVOKE.replace("</invoke>", '<parameter name="count">1</parameter></invoke>')
HERMES = f'<tool_call>{{"name": "Bash", "arguments": {dumps(LS).decode()}}}</tool_call>'
EMPTY = '<tool_call>{"name": "Bash", "arguments": {}}</tool_call>'
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.Bash:0"
    '<|tool_call_argument_begin|>{"command":"ls"}<|tool_call_end|><|tool_calls_section_end|>'
)
BASH_LS = ("Bash", LS)


def _call(arguments: str, name: str = "Bash", call_id: str = "call_1") -> Json:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}


# The text, the structured calls, and the blocks.
REPEATED_CALLS: dict[str, tuple[str, list[Json], list[Any]]] = {
    "invoke": (INVOKE, [_call('{"command":"ls"}')], [BASH_LS]),
    "hermes": (HERMES, [_call('{ "command": "ls" }')], [BASH_LS]),
    "kimi": (KIMI, [_call('{"command":"ls"}', call_id="functions.Bash:0")], [BASH_LS]),
    "text around": (f"Now.\n{INVOKE}\nOk.", [_call('{"command":"ls"}')], ["Now.", BASH_LS, "Ok."]),
    "another order": (
        COUNTED,
        [_call('{"count":1,"command":"ls"}')],
        [("Bash", {"command": "ls", "count": 1})],
    ),
    "a number in a string": (
        COUNTED,
        [_call('{"command":"ls","count":"1"}')],
        [("Bash", {"command": "ls", "count": 1})],
    ),
    "no arguments": (EMPTY, [_call("")], [("Bash", {})]),
    "an empty object": (EMPTY, [_call("{}")], [("Bash", {})]),
    "both repeated": (
        INVOKE + HERMES,
        [_call('{"command":"ls"}'), _call('{"command":"ls"}', call_id="call_2")],
        [BASH_LS, BASH_LS],
    ),
    "one repeated": (
        INVOKE,
        [_call('{"command":"ls"}'), _call('{"command":"ls"}', call_id="call_2")],
        [BASH_LS, BASH_LS],
    ),
    "another follows": (
        INVOKE,
        [_call('{"command":"ls"}'), _call('{"command":"a"}', "Read", "call_2")],
        [BASH_LS, ("Read", {"command": "a"})],
    ),
    "another precedes": (
        INVOKE,
        [_call('{"command":"a"}'), _call('{"command":"ls"}', call_id="call_2")],
        [BASH_LS, ("Bash", {"command": "a"})],
    ),
    "other arguments": (
        INVOKE,
        [_call('{"command":"ls -l"}')],
        [BASH_LS, ("Bash", {"command": "ls -l"})],
    ),
    "true is not 1": (
        COUNTED,
        [_call('{"command":"ls","count":true}')],
        [("Bash", {"command": "ls", "count": 1}), ("Bash", {"command": "ls", "count": True})],
    ),
    "another tool": (INVOKE, [_call('{"command":"ls"}', "Bash2")], [BASH_LS, ("Bash2", LS)]),
    "an example": (
        f"~~~\n{INVOKE}\n~~~",
        [_call('{"command":"ls"}')],
        [f"~~~\n{INVOKE}\n~~~", BASH_LS],
    ),
    "equal structured calls": (
        "Now.",
        [_call('{"command":"ls"}'), _call('{"command":"ls"}', call_id="call_2")],
        ["Now.", BASH_LS, BASH_LS],
    ),
}

# The text after reasoning in its own field, and the text of the response.
LEFTOVER_TAGS = {
    "alone": ("</think>", ""),
    "with text": ("</think>Hello", "Hello"),
    "on its own line": ("\n</think>\n\nHello", "Hello"),
    "of Magistral": ("[/THINK]Hello", "Hello"),
    "of MiniMax": ("</mm:think>\nHello", "Hello"),
    "only the first": ("</think>a</think>b", "a</think>b"),
    "later": ("Hello </think>", "Hello </think>"),
    "in code": ("`</think>` ends it", "`</think>` ends it"),
    "incomplete": ("</thin", "</thin"),
    "another tag": ("</thing>", "</thing>"),
}


def _run_all_ways(message: Json, pieces: list[Json]) -> list[list[Json]]:
    """Return the contents of the message, whole and streamed."""
    completion = {"choices": [{"message": message, "finish_reason": "stop"}]}
    contents = [to_message(completion, StreamTranslator(answer_spec(REQUEST)))["content"]]
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": piece}]} for piece in pieces]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    for split in (whole, byte_by_byte, random_splits):
        events, error = translate_stream(split(wire(chunks, done=True)), REQUEST)
        assert error is None
        grammar.check(events)
        contents.append(collect_message(events)["content"])
    return contents


def _summarize(content: list[Json]) -> list[Any]:
    values = {"text": "text", "thinking": "thinking"}
    return [
        block[values[block["type"]]] if block["type"] in values else (block["name"], block["input"])
        for block in content
    ]


def _cut_calls(calls: list[Json], size: int) -> list[Json]:
    """Return deltas with the calls, whose arguments are cut to pieces of `size`."""
    deltas: list[Json] = []
    for index, call in enumerate(calls):
        arguments = call["function"]["arguments"]
        first = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [first]})
        for pos in range(0, len(arguments), size):
            function = {"arguments": arguments[pos : pos + size]}
            deltas.append({"tool_calls": [{"index": index, "function": function}]})
    return deltas


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(("text", "calls", "expected"), REPEATED_CALLS.values(), ids=REPEATED_CALLS)
def test_a_repeated_call_runs_once(
    text: str, calls: list[Json], expected: list[Any], size: int
) -> None:
    pieces = [{"content": text[pos : pos + size]} for pos in range(0, len(text), size)]
    message = {"content": text, "tool_calls": calls}
    for content in _run_all_ways(message, [*pieces, *_cut_calls(calls, size)]):
        # The JSON distinguishes true from 1.
        assert dumps(_summarize(content)) == dumps(expected)
        ids = [block["id"] for block in content if block["type"] == "tool_use"]
        assert len(set(ids)) == len(ids)


def test_the_native_ids_of_a_dropped_call_are_noticed() -> None:
    translator = StreamTranslator(answer_spec(REQUEST))
    calls = [_call('{"command":"ls"}', call_id="functions.Bash:0")]
    completion = {
        "choices": [{"message": {"content": KIMI, "tool_calls": calls}, "finish_reason": "stop"}]
    }
    message = to_message(completion, translator)
    assert [block["type"] for block in message["content"]] == ["tool_use"]
    assert message["stop_reason"] == "tool_use"
    assert translator.assembler.has_native_ids


@pytest.mark.parametrize("calls", [[], [_call('{"command":"ls"}')]], ids=["text", "calls"])
@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(("text", "expected"), LEFTOVER_TAGS.values(), ids=LEFTOVER_TAGS)
def test_a_closing_tag_after_reasoning_in_its_field(
    text: str, expected: str, size: int, calls: list[Json]
) -> None:
    pieces = [{"content": text[pos : pos + size]} for pos in range(0, len(text), size)]
    message: Json = {"reasoning_content": "Hm", "content": text, "tool_calls": calls}
    deltas = [{"reasoning_content": "Hm"}, *pieces, *_cut_calls(calls, size)]
    texts = [expected] if expected else []
    blocks: list[Any] = ["Hm", *texts, *([BASH_LS] if calls else [])]
    for content in _run_all_ways(message, deltas):
        assert _summarize(content) == blocks


def test_a_closing_tag_before_a_call_in_the_text() -> None:
    text = f"</think>\n\n{HERMES}"
    message = {"reasoning_content": "Hm", "content": text}
    for content in _run_all_ways(message, [{"reasoning_content": "Hm"}, {"content": text}]):
        assert _summarize(content) == ["Hm", BASH_LS]


def test_a_closing_tag_without_reasoning_in_a_field_stays() -> None:
    chunks: list[Json] = [
        {"choices": [{"index": 0, "delta": {"content": "</think> a"}, "finish_reason": "stop"}]}
    ]
    events, _ = translate_stream(whole(wire(chunks, done=True)), REQUEST)
    assert _summarize(collect_message(events)["content"]) == ["</think> a"]
