"""Tools within limits; what it makes of a refused request is in tests/cases/refusals."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.adaptation.tool_limits import (
    limit_tools,
    list_missing_tools,
    shorten_descriptions,
)

Json = dict[str, Any]

USER: Json = {"role": "user", "content": "a"}
MARK = " [continued in the system prompt]"


def tool(name: str, description: str = "") -> Json:
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": {}},
    }


def test_a_call_of_a_tool_that_is_not_offered_any_more_takes_no_place() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "gone", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}, USER]
    changed = limit_tools({"tools": [tool("a"), tool("b")], "messages": messages}, 1)
    assert changed["tools"] == [tool("a")]


def test_the_choice_of_one_tool_misses_no_other() -> None:
    before = {"tools": [tool("a"), tool("b")]}
    after = {"tools": [tool("a")]}
    assert list_missing_tools(before, after) == ["b"]
    assert (
        list_missing_tools(
            {**before, "tool_choice": {"type": "function", "function": {"name": "a"}}}, after
        )
        == []
    )
    assert list_missing_tools(before, before) == list_missing_tools({}, {}) == []


@given(st.text(st.sampled_from("ab \né"), max_size=200), st.integers(1, 150))
def test_no_word_of_a_description_is_lost(text: str, most: int) -> None:
    changed = shorten_descriptions({"tools": [tool("f", text)], "messages": [USER]}, most)
    short = changed["tools"][0]["function"]["description"]
    assert len(short) <= most
    rest = changed["messages"][0]["content"].partition(":\n")[2] if len(text) > most else ""
    assert "".join((short.removesuffix(MARK) + rest).split()) == "".join(text.split())
    assert shorten_descriptions(changed, most) == changed
