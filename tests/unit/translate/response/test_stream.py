"""The stream translation: every case three ways, and the invariant for any chunks at all."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import Redactor, Secret
from anthropic_proxy.translate.response.stop_reasons import FAILURES, STOP_REASONS
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.cases import cases
from tests.support.finish_words import WORDED_FAILURES, WORDED_STOP_REASONS
from tests.support.response_specs import answer_spec
from tests.support.splits import byte_by_byte, random_splits, whole
from tests.support.streams import LOOK, MARKED, Json, translate_stream, wire


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("case", cases("streams"))
def test_case(case: Json, split: Any) -> None:
    events, error = translate_stream(
        split(wire(case["chunks"], done=case["done"])), case.get("request")
    )
    grammar.check(events)
    if "error" in case:
        assert error is not None
        assert {"status": error.status, "message": error.message} == case["error"]
        assert events[-1] == error.body("req_1")
    else:
        message = collect_message(events)
        assert message == {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-test",
            **case["message"],
        }


def test_start_says_what_is_known() -> None:
    start, ping = StreamTranslator(answer_spec()).start()
    assert start["message"]["usage"]["input_tokens"] == 7
    assert (start["message"]["stop_reason"], start["message"]["content"]) == (None, [])
    assert ping == {"type": "ping"}


def test_nothing_is_held_back() -> None:
    """Text, reasoning and arguments go out with the chunk that they came in."""
    translator = StreamTranslator(answer_spec({"thinking": {"type": "adaptive"}}))
    deltas = [
        {"reasoning": "a"},
        {"content": "b"},
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {"tool_calls": [{"index": 1, "id": "y", "function": {"name": "g", "arguments": "{"}}]},
    ]
    sent = [
        translator.feed({"choices": [{"index": 0, "delta": delta}]})[-1]["delta"]
        for delta in deltas
    ]
    assert [list(delta.values())[-1] for delta in sent] == ["a", "b", "{", "}", "{"]


def test_after_the_end_nothing_comes() -> None:
    translator = StreamTranslator(answer_spec({"stop_sequences": ["."]}))
    translator.start()
    events = translator.feed({"choices": [{"index": 0, "delta": {"content": "a.b"}}]})
    assert events[-1]["type"] == "message_stop"
    assert translator.is_finished
    assert translator.feed({"choices": [{"index": 0, "delta": {"content": "c"}}]}) == []
    assert translator.close(done=True) == []


def test_a_stop_sequence_in_held_text_ends_the_response() -> None:
    """The filter of structured responses holds this text until the end."""
    output_format = {"format": {"type": "json_schema", "schema": {}}}
    request = {"output_config": output_format, "stop_sequences": ["END"]}
    translator = StreamTranslator(answer_spec(request))
    chunk = {"choices": [{"delta": {"content": 'Sure: {"a": "END"}'}, "finish_reason": "stop"}]}
    assert translator.feed(chunk) == []
    events = translator.close(done=True)
    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
arguments = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts, lambda each: st.lists(each, max_size=2)
)
inputs = st.dictionaries(texts, arguments, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Json], list[Json]]:
    """Return deltas of an upstream and the blocks that they become.

    Calls are cut anywhere, and may interleave.
    """
    reasoning = draw(st.lists(texts.filter(bool), max_size=3))
    content = draw(st.lists(texts.filter(bool), max_size=3))
    calls = draw(st.lists(inputs, max_size=3))
    deltas: list[Json] = [{"reasoning_content": text} for text in reasoning] + [
        {"content": text} for text in content
    ]
    fragments: list[list[Json]] = []
    for index, call in enumerate(calls):
        raw = dumps(call).decode()
        cut = draw(st.integers(0, len(raw)))
        first = {
            "index": index,
            "id": f"call_{index}",
            "function": {"name": f"tool_{index}", "arguments": raw[:cut]},
        }
        fragments.append([first, {"index": index, "function": {"arguments": raw[cut:]}}])
    if draw(st.booleans()):
        order = [each[0] for each in fragments] + [each[1] for each in fragments]
    else:
        order = [fragment for each in fragments for fragment in each]
    deltas += [{"tool_calls": [fragment]} for fragment in order]
    blocks = [{"thinking": "".join(reasoning)}] if reasoning else []
    text = "".join(content)
    # White space beside other content is not a block.
    is_alone = not reasoning and not calls
    if text.strip() or (text and is_alone):
        blocks.append({"text": text})
    return deltas, blocks + [
        {"name": f"tool_{index}", "input": call} for index, call in enumerate(calls)
    ]


@given(answers())
def test_what_went_in_comes_out(answer: tuple[list[Json], list[Json]]) -> None:
    deltas, blocks = answer
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events, error = translate_stream(
        whole(wire(chunks, done=True)), {"thinking": {"type": "adaptive"}}
    )
    assert error is None
    grammar.check(events)
    content = collect_message(events)["content"]
    assert [
        {name: block[name] for name in wanted}
        for block, wanted in zip(content, blocks, strict=True)
    ] == blocks


broken = st.lists(st.text(st.sampled_from("{}[]:,'\"\\ntruefals01. a/"), max_size=8), max_size=4)


@given(broken, st.booleans(), st.sampled_from(["tool_calls", "length"]))
def test_any_arguments_add_up_to_an_object(pieces: list[str], begun: bool, finish: str) -> None:
    calls = [
        {"index": 0, "function": {"name": "f", "arguments": piece}}
        for piece in ['{"a":"b"', *pieces][not begun :]
    ]
    chunks: list[Json] = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events, _ = translate_stream(whole(wire(chunks, done=True)))
    grammar.check(events)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | texts,
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "index",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "finish_reason",
                    "usage",
                    "reasoning",
                    "error",
                    "text",
                    "prompt_tokens",
                    "refusal",
                    "function_call",
                ]
            ),
            each,
            max_size=4,
        )
    ),
    max_leaves=12,
)
chunk_like = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {"finish_reason": junk},
                optional={
                    "delta": junk,
                    "message": junk,
                    "text": junk,
                    "index": st.integers(-1, 2),
                },
            ),
            max_size=3,
        ),
        "usage": junk,
    },
)


@given(st.lists(chunk_like | st.dictionaries(texts, junk, max_size=2), max_size=6), st.booleans())
def test_no_chunks_break_the_grammar(chunks: list[Json], done: bool) -> None:
    events, _ = translate_stream(
        whole(wire(chunks, done=done)), {"thinking": {"type": "enabled"}, "stop_sequences": ["a"]}
    )
    grammar.check(events)


_functions: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["look", "lo", "ok", "", None]),
        "arguments": st.sampled_from(["{", '{"a":', '"b"}', "{}", "}", "x", "", None, {"a": 1}]),
    },
)
_fragments: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"function": _functions},
    optional={"index": st.integers(0, 2), "id": st.sampled_from(["", "a", "b"])},
)
_deltas: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        "content": MARKED,
        "reasoning": texts,
        "tool_calls": st.lists(_fragments, max_size=2),
    },
)
_finish_reasons = st.sampled_from([None, "stop", "tool_calls", "content_filter", "error"])
_requests = st.sampled_from(
    [
        None,
        LOOK,
        LOOK | {"thinking": {"type": "adaptive"}},
        LOOK | {"stop_sequences": ["b", "\n"]},
        LOOK | {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
        LOOK | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ]
)


@given(st.lists(_deltas, max_size=12), _finish_reasons, st.booleans(), _requests)
def test_no_order_of_content_breaks_the_grammar(
    deltas: list[Json], finish_reason: str | None, done: bool, request: Json | None
) -> None:
    """Text, reasoning and fragments of several calls interleave in any way."""
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    events, _ = translate_stream(whole(wire(chunks, done=done)), request)
    grammar.check(events)


@pytest.mark.parametrize(
    ("finish_reason", "unknown"), [("stop", None), ("eos", None), ("whim", "whim")]
)
def test_unknown_finish_reasons_end_the_turn_and_are_told(
    finish_reason: str, unknown: str | None
) -> None:
    translator = StreamTranslator(answer_spec())
    translator.start()
    translator.feed({"choices": [{"delta": {"content": "a"}, "finish_reason": finish_reason}]})
    translator.close(done=True)
    assert (translator.stop_reason, translator.unknown_finish_reason) == ("end_turn", unknown)


_SHELL = {
    "tools": [
        {
            "name": "Bash",
            "input_schema": {
                "type": "object",
                "properties": {"command": {"type": "string"}},
                "required": ["command"],
            },
        },
        {"name": "look", "input_schema": {"type": "object"}},
    ]
}
_TEXT: Json = {"content": "Done."}
_HALF_CALL: Json = {
    "tool_calls": [
        {"index": 0, "id": "c", "function": {"name": "Bash", "arguments": '{"command":"rm -rf bu'}}
    ]
}
_CALL: Json = {
    "tool_calls": [
        {"index": 0, "id": "c", "function": {"name": "Bash", "arguments": '{"command":"ls"}'}}
    ]
}
_CALL_WITHOUT_ARGUMENTS: Json = {"tool_calls": [{"index": 0, "function": {"name": "Bash"}}]}
_CALL_THAT_NEEDS_NONE: Json = {"tool_calls": [{"index": 0, "function": {"name": "look"}}]}
_HALF_CALL_IN_TEXT: Json = {"content": '<tool_call>{"name": "Bash", "arguments": {"command": "rm'}


def _end(
    delta: Json, *finish_reasons: Any, split: Any = whole, done: bool = True, **fields: Any
) -> Json:
    """Return the message of a response with one delta, or its error."""
    choices: list[Json] = [{"delta": delta}]
    for finish_reason in finish_reasons:
        choices.append({"delta": {}, "finish_reason": finish_reason, **fields})
    return _translate(choices, split=split, done=done)


def _translate(
    choices: list[Json], *, split: Any = whole, done: bool = True, request: Json = _SHELL
) -> Json:
    """Return the message of a response with one chunk for each choice, or its error."""
    chunks: list[Json] = [{"choices": [{"index": 0, **choice}]} for choice in choices]
    events, error = translate_stream(split(wire(chunks, done=done)), request)
    grammar.check(events)
    if error is not None:
        return {"status": error.status, "message": error.message}
    return collect_message(events)


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(("word", "status"), [*FAILURES.items(), *WORDED_FAILURES.items()])
def test_a_response_that_broke_off_is_an_error(word: str, status: int, split: Any) -> None:
    for delta in ({}, _TEXT, _CALL, _HALF_CALL):
        for finish_reasons in ((word,), ("stop", word), (word.upper(), "stop")):
            error = _end(delta, *finish_reasons, split=split)
            assert error["status"] == status
            assert error["message"].startswith("The upstream up:1 aborted the response")
            assert word in error["message"].lower()


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    ("word", "stop_reason"), [*STOP_REASONS.items(), *WORDED_STOP_REASONS.items()]
)
def test_each_stop_reason(word: str, stop_reason: str, split: Any) -> None:
    if stop_reason in ("end_turn", "tool_use"):
        assert _end(_TEXT, word, split=split)["stop_reason"] == "end_turn"
        assert _end(_CALL, word, split=split)["stop_reason"] == "tool_use"
        return
    for delta in ({}, _TEXT, _CALL):
        assert _end(delta, word.upper(), split=split)["stop_reason"] == stop_reason
    message = _end(_HALF_CALL, word, split=split)
    # The arguments are neither closed nor repaired.
    assert message["stop_reason"] == stop_reason
    assert "INVALID_JSON" not in message["content"][0]["input"]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    "finish_reasons", [("whim",), ("OTHER",), ("repetition",), (), ("null",), ("", None)], ids=str
)
def test_an_end_that_proves_nothing(finish_reasons: tuple[Any, ...], split: Any) -> None:
    """An unknown word, or [DONE] alone, ends texts and complete calls."""
    assert _end(_TEXT, *finish_reasons, split=split)["stop_reason"] == "end_turn"
    for delta in (_CALL, _CALL_THAT_NEEDS_NONE):
        assert _end(delta, *finish_reasons, split=split)["stop_reason"] == "tool_use"
    for delta in (_HALF_CALL, _CALL_WITHOUT_ARGUMENTS):
        error = _end(delta, *finish_reasons, split=split)
        assert error["status"] == 500
        assert "The upstream up:1 ended the response before it was complete" in error["message"]
    text_call = _end(_HALF_CALL_IN_TEXT, *finish_reasons, split=split)
    assert text_call["stop_reason"] == "end_turn"
    assert text_call["content"] == [{"type": "text", "text": _HALF_CALL_IN_TEXT["content"]}]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"content": None}], ids=str)
def test_an_empty_response_with_an_unproven_end_is_an_error(
    delta: Json, done: bool, split: Any
) -> None:
    for finish_reason in ("weird_word", "OTHER"):
        error = _end(delta, finish_reason, split=split, done=done)
        assert error["status"] == 500
        assert f'finish reason "{finish_reason}", 0 output tokens' in error["message"]
    assert _end(delta, split=split, done=done)["status"] == 500
    message = _end(delta, "stop", split=split, done=done)
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("finish_reasons", [(), ("whim",), ("OTHER",), ("repetition",)], ids=str)
@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm"},
        {"content": "<think>Hm"},
        {"content": "<think>Hm</think>"},
        {"content": "[THINK]"},
    ],
    ids=str,
)
def test_an_end_within_the_reasoning_that_proves_nothing(
    delta: Json, finish_reasons: tuple[str, ...], split: Any
) -> None:
    """Such a response may be truncated, so the reasoning is neither a turn nor its text."""
    for request in (_SHELL, _SHELL | {"thinking": {"type": "adaptive"}}):
        choices: list[Json] = [{"delta": delta}]
        choices += [{"finish_reason": word} for word in finish_reasons]
        error = _translate(choices, split=split, request=request)
        assert error["status"] == 500
        reason = f" (finish reason: {finish_reasons[0]})" if finish_reasons else ""
        assert error["message"] == (
            f"The upstream up:1 ended the response before it was complete{reason}"
        )


def test_done_ends_a_refusal() -> None:
    assert _end({"refusal": "No."})["stop_reason"] == "refusal"


def _call_with(*pieces: str) -> list[Json]:
    first = {"index": 0, "id": "c", "function": {"name": "Bash", "arguments": ""}}
    fragments = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [fragment]} for fragment in (first, *fragments)]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize(
    "arguments",
    [
        "{'command': 'ls'}",
        '{"command": "ls",}',
        '{command: "ls"}',
        '{"command": "ls"} </tool_call>',
        "{\"command\": 'ls'}<|im_end|>",
        '```json\n{"command": "ls"}\n```',
        '{"command": "ls" /* list */}',
    ],
)
def test_done_ends_malformed_but_complete_arguments(arguments: str, size: int, split: Any) -> None:
    deltas = _call_with(*(arguments[pos : pos + size] for pos in range(0, len(arguments), size)))
    for finish_reasons in ((), ("whim",), ("stop",)):
        choices: list[Json] = [{"delta": delta} for delta in deltas]
        choices += [{"finish_reason": word} for word in finish_reasons]
        message = _translate(choices, split=split)
        assert message["stop_reason"] == "tool_use"
        assert message["content"][0]["input"] == {"command": "ls"}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"command": "ls"',
        "{'command': 'ls'",
        "{'command': 'rm -rf bu",
        "{'command': 'ls', 'a': {'b': 1}",
        '```json\n{"command": "ls"',
        '{"command": "ls"} {"command": "rm -rf bu',
        "{'command': 'ls'} {'command'",
    ],
)
def test_done_does_not_end_incomplete_arguments(arguments: str) -> None:
    choices: list[Json] = [{"delta": delta} for delta in _call_with(arguments)]
    for end in [], [{"finish_reason": "whim"}]:
        error = _translate([*choices, *end])
        assert "before it was complete" in error["message"]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    ("finish_reasons", "stop_reason"),
    [
        (("null", "length"), "max_tokens"),
        (("", "null", None, "stop"), "end_turn"),
        (("stop", "length"), "max_tokens"),
        (("length", "stop"), "max_tokens"),
        (("length", None), "max_tokens"),
        (("length", "content_filter"), "refusal"),
        (("content_filter", "length", "stop"), "refusal"),
        (("max_tokens", "model_context_window_exceeded"), "model_context_window_exceeded"),
        (("whim", "length"), "max_tokens"),
        (("stop", "whim"), "end_turn"),
    ],
)
def test_the_most_severe_finish_reason_counts(
    finish_reasons: tuple[Any, ...], stop_reason: str, done: bool
) -> None:
    assert _end(_TEXT, *finish_reasons, done=done)["stop_reason"] == stop_reason


@pytest.mark.parametrize(
    ("native", "result"),
    [
        ("STOP", "end_turn"),
        ("completed", "end_turn"),
        ("whim", "end_turn"),
        (None, "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("refusal", "refusal"),
        ("MALFORMED_FUNCTION_CALL", 500),
    ],
)
def test_the_native_finish_reason_of_openrouter(native: Any, result: str | int) -> None:
    message = _end(_TEXT, "stop", native_finish_reason=native)
    assert result in (message.get("stop_reason"), message.get("status"))
    # Without a finish reason, the response has not ended.
    assert _end(_TEXT, None, "stop", native_finish_reason=native) == message


def test_the_error_of_a_provider_of_openrouter() -> None:
    error = {"code": 502, "message": "Upstream died"}
    assert _end(_TEXT, "error", error=error) == {"status": 500, "message": "Upstream died"}


def test_a_finish_reason_contains_no_secret() -> None:
    upstream = UpstreamIdentity("up:1", Redactor([Secret("sk-secret-123456")]))
    translator = StreamTranslator(replace(answer_spec(), upstream=upstream))
    with pytest.raises(ApiError) as caught:
        translator.feed({"choices": [{"finish_reason": "error: sk-secret-123456"}]})
    assert "sk-secret" not in caught.value.message


def test_a_stop_sequence_does_not_hide_a_truncated_call() -> None:
    """Text that arrives within a call follows it, and may contain a stop sequence."""
    chunks: list[Json] = [
        {"choices": [{"delta": delta}]} for delta in (_HALF_CALL, {"content": "a END"})
    ]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
    events, _ = translate_stream(whole(wire(chunks, done=True)), {"stop_sequences": ["END"]})
    grammar.check(events)
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("chunks", "is_complete"),
    [
        ([{"delta": _TEXT}, {"finish_reason": "stop", "usage": {"prompt_tokens": 1}}], True),
        ([{"delta": _TEXT}, {"finish_reason": "stop"}, {"usage": {"prompt_tokens": 1}}], True),
        ([{"delta": _TEXT}, {"finish_reason": "stop"}], False),
        ([{"delta": _TEXT}, {"usage": {"prompt_tokens": 1}}], False),
        ([{"delta": _TEXT, "usage": {"prompt_tokens": 1}}, {"finish_reason": "stop"}], False),
        # Each piece of content may have a finish reason and usage.
        ([{"delta": _TEXT, "finish_reason": "stop", "usage": {"prompt_tokens": 1}}], False),
        ([{"delta": _CALL, "finish_reason": "stop", "usage": {"prompt_tokens": 1}}], False),
        (
            [
                {"delta": _TEXT, "finish_reason": "stop"},
                {"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 1}},
            ],
            False,
        ),
        # Content may follow this one.
        ([{"finish_reason": "stop", "usage": {"prompt_tokens": 1}}], False),
        # The usage may follow zeros, and a call may follow its finish reason.
        ([{"delta": _TEXT}, {"finish_reason": "stop", "usage": {"prompt_tokens": 0}}], False),
        (
            [{"delta": _TEXT}, {"finish_reason": "tool_calls", "usage": {"prompt_tokens": 1}}],
            False,
        ),
        (
            [{"delta": _CALL}, {"finish_reason": "tool_calls", "usage": {"prompt_tokens": 1}}],
            True,
        ),
    ],
)
def test_finish_reason_and_usage_complete_a_response(chunks: list[Json], is_complete: bool) -> None:
    translator = StreamTranslator(answer_spec(_SHELL))
    for chunk in chunks:
        usage = chunk.pop("usage", None)
        translator.feed({"choices": [chunk], "usage": usage})
    assert translator.is_complete == is_complete


class _WithoutShortcut(StreamTranslator):
    """Translates each piece in full."""

    def _can_bypass_filters(self) -> bool:
        return False


# Pieces of a closing tag on a separate line, between texts that bypass the filters.
_CLOSING = st.sampled_from(["a", "\n", "<", "</", "/", "think>", "think", ">", ">\n"])


@given(st.lists(MARKED, max_size=30) | st.lists(_CLOSING), st.sampled_from([None, LOOK]))
@example(["a", "\n", "<", "/think>\n"], None)
@example(["a", "<think>", "<", "b"], LOOK)
def test_plain_pieces_are_translated_like_all_others(
    pieces: list[str], request: Json | None
) -> None:
    chunks: list[Json] = [
        {"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    def translated_by(translator: StreamTranslator) -> Any:
        events = [event for chunk in chunks for event in translator.feed(chunk)]
        return (
            [*events, *translator.close(done=True)],
            translator.next_starts_in_thinking,
            translator.usage,
        )

    slow = _WithoutShortcut(answer_spec(request))
    assert translated_by(StreamTranslator(answer_spec(request))) == translated_by(slow)
