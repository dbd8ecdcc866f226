"""Tools: what the way back needs to know of them. The way there is in the cases of test_request.py."""

from typing import Any

import pytest

from anthropic_proxy.translate.request.tools import disables_parallel_calls, map_tool_names
from anthropic_proxy.translate.tool_names import ToolName

LONG = "mcp__server__a_tool_with_a_name_that_is_longer_than_sixty_four_characters"


def test_names_that_are_the_same_upstream_are_not_listed() -> None:
    tools = [
        {"name": "a"},
        {"type": "bash_20250124"},
        {"type": "web_search_20250305", "name": "web.search"},
    ]
    assert map_tool_names({"messages": [], "tools": tools}) == {}


def test_names_come_from_the_tools_that_are_there_in_the_end() -> None:
    definition = {"type": "tool_definition", "definition": {"name": LONG, "input_schema": {}}}
    changes = [
        {"type": "tool_addition", "tool": definition},
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "a.b"}},
    ]
    request = {
        "messages": [{"role": "system", "content": changes}],
        "tools": [{"name": "a.b"}, {"name": "c.d"}],
    }
    assert list(map_tool_names(request).values()) == [ToolName("c.d"), ToolName(LONG)]


def test_members_have_their_toolset() -> None:
    names = map_tool_names({"messages": [], "tools": [{"type": "computer_toolset_20260801"}]})
    assert names["computer__scroll"] == ToolName("scroll", "computer")
    assert len(names) == 17


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, False),
        ({"type": "auto"}, False),
        ({"type": "auto", "disable_parallel_tool_use": None}, False),
        ({"type": "any", "disable_parallel_tool_use": True}, True),
    ],
)
def test_takes_one_call(choice: Any, *, expected: bool) -> None:
    assert disables_parallel_calls({"tool_choice": choice}) is expected
