"""The stream translation: every case three ways, and the invariant for any chunks at all."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.cases import cases
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
    blocks += [{"text": "".join(content)}] if content else []
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
