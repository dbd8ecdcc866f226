"""The tools as the response translation needs them; their conversion is in tests/cases/requests."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.request.tools import ResolvedTools, resolve_tools
from anthropic_proxy.translate.tool_names import ToolName

LONG = "mcp__server__a_tool_with_a_name_that_is_longer_than_sixty_four_characters"


def resolved(request: dict[str, Any]) -> ResolvedTools:
    return resolve_tools({"messages": [], **request}, TranslationNotes())


def test_names_that_are_the_same_upstream_are_not_listed() -> None:
    tools = [
        {"name": "a", "input_schema": {}},
        {"type": "bash_20250124"},
        {"type": "web_search_20250305", "name": "web.search"},
    ]
    assert resolved({"tools": tools}).names == {}


def test_names_come_from_the_tools_that_are_there_in_the_end() -> None:
    definition = {"type": "tool_definition", "definition": {"name": LONG, "input_schema": {}}}
    changes = [
        {"type": "tool_addition", "tool": definition},
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "a.b"}},
    ]
    request = {
        "messages": [{"role": "system", "content": changes}],
        "tools": [{"name": name, "input_schema": {}} for name in ("a.b", "c.d")],
    }
    assert list(resolved(request).names.values()) == [ToolName("c.d"), ToolName(LONG)]


def test_members_have_their_toolset() -> None:
    names = resolved({"tools": [{"type": "computer_toolset_20260801"}]}).names
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
    tools = [{"name": "a", "input_schema": {}}]
    assert resolved({"tool_choice": choice, "tools": tools}).single_call is expected


def test_many_tools_of_a_dated_type_are_refused() -> None:
    tools = [{"type": "bash_20250124", "name": f"bash_{number}"} for number in range(21)]
    assert len(resolved({"tools": tools[:20]}).fields["tools"]) == 20
    with pytest.raises(ApiError, match="the maximum number of tools of type bash is 20"):
        resolved({"tools": tools})
