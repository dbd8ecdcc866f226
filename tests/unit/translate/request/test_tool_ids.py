"""Ids of calls: legal, each used once, and the same for the same history."""

import re

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.request.tool_ids import ToolCallIds

IDS = st.lists(
    st.sampled_from(["a", "b", "", "a b", "é", "x" * 41, "x" * 40, ToolCallIds().assign_id("a b")]),
    max_size=12,
)


@given(IDS)
def test_any_ids(given_ids: list[str]) -> None:
    first, second = ToolCallIds(), ToolCallIds()
    made = [first.assign_id(each) for each in given_ids]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", each) for each in made)
    assert len(set(made)) == len(made)
    assert made == [second.assign_id(each) for each in given_ids]


def test_legal_ids_stay() -> None:
    ids = ToolCallIds()
    assert [ids.assign_id(each) for each in ("toolu_1", "call-2", "x" * 40)] == [
        "toolu_1",
        "call-2",
        "x" * 40,
    ]


def test_an_id_that_ours_has_taken() -> None:
    ids = ToolCallIds()
    ids.assign_id("a")
    taken = ids.assign_id("a")
    assert len({ids.assign_id(taken), taken, "a"}) == 3


@given(IDS)
def test_any_ids_of_nine_characters(given_ids: list[str]) -> None:
    first, second = ToolCallIds("nine"), ToolCallIds("nine")
    made = [first.assign_id(each) for each in given_ids]
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", each) for each in made)
    assert len(set(made)) == len(made)
    assert made == [second.assign_id(each) for each in given_ids]


def test_nine_characters_stay() -> None:
    ids = ToolCallIds("nine")
    assert ids.assign_id("aB3456789") == "aB3456789"
    assert ids.assign_id("aB3456789") != "aB3456789"


def test_long_ids_that_begin_alike_stay_apart() -> None:
    ids = ToolCallIds()
    long_ids = ["x" * 300 + end for end in "ab"]
    made = [ids.assign_id(each) for each in (*long_ids, *long_ids)]
    assert len(set(made)) == 4
    assert all(len(each) == 40 for each in made)
