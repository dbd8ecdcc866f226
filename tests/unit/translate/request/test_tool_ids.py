"""Ids of calls: legal, each used once, and the same for the same history."""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.request.tool_ids import ToolCallIds, change_call_ids
from tests.support.scaling import assert_linear_cpu

IDS = st.lists(
    st.sampled_from(
        ["a", "b", "", "a b", "é", "x" * 41, "x" * 40, ToolCallIds().assign_id("a b", "Bash")]
    ),
    max_size=12,
)

NAMES = st.sampled_from(["f", "g"])


@given(IDS)
def test_any_ids(given_ids: list[str]) -> None:
    first, second = ToolCallIds(), ToolCallIds()
    made = [first.assign_id(each, "Bash") for each in given_ids]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", each) for each in made)
    assert len(set(made)) == len(made)
    assert made == [second.assign_id(each, "Bash") for each in given_ids]


def test_legal_ids_stay() -> None:
    ids = ToolCallIds()
    assert [ids.assign_id(each, "Bash") for each in ("toolu_1", "call-2", "x" * 40)] == [
        "toolu_1",
        "call-2",
        "x" * 40,
    ]


def test_an_id_that_ours_has_taken() -> None:
    ids = ToolCallIds()
    ids.assign_id("a", "Bash")
    taken = ids.assign_id("a", "Bash")
    assert len({ids.assign_id(taken, "Bash"), taken, "a"}) == 3


@given(IDS)
def test_any_ids_of_nine_characters(given_ids: list[str]) -> None:
    first, second = ToolCallIds("nine"), ToolCallIds("nine")
    made = [first.assign_id(each, "Bash") for each in given_ids]
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", each) for each in made)
    assert len(set(made)) == len(made)
    assert made == [second.assign_id(each, "Bash") for each in given_ids]


def test_nine_characters_stay() -> None:
    ids = ToolCallIds("nine")
    assert ids.assign_id("aB3456789", "Bash") == "aB3456789"
    assert ids.assign_id("aB3456789", "Bash") != "aB3456789"


def test_long_ids_that_begin_alike_stay_apart() -> None:
    ids = ToolCallIds()
    long_ids = ["x" * 300 + end for end in "ab"]
    made = [ids.assign_id(each, "Bash") for each in (*long_ids, *long_ids)]
    assert len(set(made)) == 4
    assert all(len(each) == 40 for each in made)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "toolu_1_f0", "toolu_2_f3", "functions.f:1"]), NAMES))
)
def test_any_numbered_ids(calls: list[tuple[str, str]]) -> None:
    first, second = ToolCallIds("numbered"), ToolCallIds("numbered")
    made = [first.assign_id(*call) for call in calls]
    assert len(set(made)) == len(made)
    for call_id, (_, name) in zip(made, calls, strict=True):
        assert re.fullmatch(rf"functions\.{name}:\d+", call_id)
    assert made == [second.assign_id(*call) for call in calls]
    again = ToolCallIds("numbered")
    assert made == [
        again.assign_id(call_id, name) for call_id, (_, name) in zip(made, calls, strict=True)
    ]


def test_changed_ids_of_calls_and_results() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": "a", "content": "an orphan"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "r"},
        {"role": "user", "content": "b"},
    ]
    assert change_call_ids(messages, "numbered") == [
        messages[0],
        {"role": "assistant", "tool_calls": [{"id": "functions.f:0", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "r"},
        messages[3],
    ]


def test_many_numbered_ids_take_linear_time() -> None:
    def prepare(size: int) -> Callable[[], object]:
        def assign() -> None:
            ids = ToolCallIds("numbered")
            for number in range(size):
                ids.assign_id(f"functions.f:{size + number}", "f")
            for _ in range(size):
                ids.assign_id("a", "f")

        return assign

    assert_linear_cpu(prepare, 5000)
