"""Context edits: every recorded case, and properties of any conversation."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits, describe_ignored_edits
from anthropic_proxy.wire.anthropic.request import parse_messages_request
from anthropic_proxy.wire.json_codec import dumps
from tests.support.cases import cases

Json = dict[str, Any]


def count(request: Json) -> int:
    """Stands in for an estimate of tokens."""
    return len(dumps(request["messages"]))


@pytest.mark.parametrize("case", cases("context"))
def test_case(case: Json) -> None:
    request = expand_compaction_blocks(parse_messages_request(dumps(case["request"])))
    given_request = copy.deepcopy(request)
    edited, applied = apply_edits(request, count)
    assert edited["messages"] == case["messages"]
    assert applied == case["applied"]
    assert request == given_request, "the client's request is not ours to change"


def test_tokens_are_not_counted_where_they_do_not_matter() -> None:
    def count_nothing(_: Json) -> int:
        raise AssertionError

    edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "compact_20260112"}]
    request = {
        "messages": [{"role": "user", "content": "Hi"}],
        "context_management": {"edits": edits},
    }
    assert apply_edits(request, count_nothing) == (request, [])


def test_unknown_edits_are_noted() -> None:
    edits = [{"type": "compact_20260112"}, {"type": "shuffle_20270101"}]
    assert describe_ignored_edits({"context_management": {"edits": edits}}) == {
        "context edit shuffle_20270101"
    }
    assert describe_ignored_edits({}) == set()


names = st.sampled_from(["read", "write"])


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """Turns with thinking, calls and their results, in any number."""
    messages: list[Json] = [{"role": "user", "content": "Go"}]
    number = 0
    for _ in range(draw(st.integers(0, 5))):
        blocks: list[Json] = (
            [{"type": "thinking", "thinking": "Hm", "signature": ""}] if draw(st.booleans()) else []
        )
        results: list[Json] = []
        for name in draw(st.lists(names, max_size=3)):
            number += 1
            blocks.append(
                {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {"n": number}}
            )
            results.append(
                {
                    "type": "tool_result",
                    "tool_use_id": f"toolu_{number}",
                    "content": "x" * draw(st.integers(0, 90)),
                }
            )
        messages.append({"role": "assistant", "content": [*blocks, {"type": "text", "text": "ok"}]})
        messages.append({"role": "user", "content": [*results, {"type": "text", "text": "more"}]})
    return messages


numbers = st.integers(0, 6)
clear_tools = st.fixed_dictionaries(
    {
        "type": st.just("clear_tool_uses_20250919"),
        "trigger": st.fixed_dictionaries(
            {"type": st.sampled_from(["tool_uses", "input_tokens"]), "value": numbers}
        ),
        "keep": st.fixed_dictionaries({"type": st.just("tool_uses"), "value": numbers}),
    },
    optional={
        "exclude_tools": st.lists(names, max_size=1),
        "clear_tool_inputs": st.booleans() | st.lists(names, max_size=2),
        "clear_at_least": st.fixed_dictionaries(
            {"type": st.just("input_tokens"), "value": st.integers(0, 200)}
        ),
    },
)
clear_thinking = st.fixed_dictionaries(
    {"type": st.just("clear_thinking_20251015")},
    optional={
        "keep": st.fixed_dictionaries(
            {"type": st.just("thinking_turns"), "value": st.integers(1, 3)}
        )
    },
)


@given(conversations(), st.lists(clear_tools | clear_thinking, max_size=2))
def test_any_conversation(messages: list[Json], edits: list[Json]) -> None:
    request = {"messages": messages, "context_management": {"edits": edits}}
    before = copy.deepcopy(request)
    edited, applied = apply_edits(request, count)
    assert request == before
    assert links(edited) == links(request), "each result still has its use, in its place"
    assert apply_edits(copy.deepcopy(request), count) == (edited, applied)
    assert all(each["cleared_input_tokens"] >= 0 for each in applied)
    # The next pass clears and reports nothing, unless another edit was in its way.
    if len(edits) == 1:
        assert apply_edits(edited, count) == (edited, [])


def links(request: Json) -> list[list[str]]:
    """The ids of the uses and results in each message."""
    contents = [
        message["content"]
        for message in request["messages"]
        if isinstance(message["content"], list)
    ]
    names = {"tool_use": "id", "tool_result": "tool_use_id"}
    return [
        [block[names[block["type"]]] for block in content if block["type"] in names]
        for content in contents
    ]
