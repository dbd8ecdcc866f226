"""Tool names, there and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tool_names import (
    NamePrefixes,
    ToolName,
    find_offered_name,
    to_caller_name,
    to_upstream_name,
)

LONG = "mcp__a_server_with_a_long_name__and_a_tool_whose_name_is_even_longer_than_that"


def back(*tools: ToolName) -> list[ToolName]:
    """What the client reads where the upstream calls each of the tools."""
    names = {to_upstream_name(tool.name, tool.toolset_name): tool for tool in tools}
    return [to_caller_name(names, to_upstream_name(tool.name, tool.toolset_name)) for tool in tools]


@pytest.mark.parametrize(
    "name",
    ["a", "get_weather", "mcp__a-b__c", "x" * 64, "computer", "computer_use", "my_browser__x"],
)
def test_legal_names_stay(name: str) -> None:
    assert to_upstream_name(name) == name


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("21st_magic_component_builder", "tool_21st_magic_component_builder_"),
        ("_private", "tool_private_"),
        ("-x", "tool_x_"),
        ("__", "tool_"),
        ("3" * 64, "tool_333"),
        ("\N{GREEK SMALL LETTER ALPHA}b", "tool_b_"),
    ],
)
def test_names_begin_with_a_letter(name: str, beginning: str) -> None:
    """Gemini requires a letter or an underscore, and Moonshot a letter."""
    assert to_upstream_name(name).startswith(beginning)
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}", to_upstream_name(name))
    assert back(ToolName(name)) == [ToolName(name)]


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = to_upstream_name(LONG + "_1"), to_upstream_name(LONG + "_2")
    assert first != second
    assert first.startswith("mcp__a_server_with_a_long_name__and_a_tool_")
    assert back(ToolName(LONG + "_1"), ToolName("short")) == [
        ToolName(LONG + "_1"),
        ToolName("short"),
    ]


def test_members_and_tools_that_look_like_them_stay_apart() -> None:
    tools = [
        ToolName("key", "computer"),
        ToolName("key", "browser"),
        ToolName("key"),
        ToolName("computer__key"),
    ]
    assert to_upstream_name("key", "computer") == "computer__key"
    assert len({to_upstream_name(tool.name, tool.toolset_name) for tool in tools}) == 4
    assert back(*tools) == tools


def test_a_name_that_nobody_gave_stays() -> None:
    names = {"computer__key": ToolName("key", "computer")}
    assert to_caller_name(names, "computer__jump") == ToolName("computer__jump")


@given(
    st.text(min_size=1, max_size=100),
    st.sampled_from([None, "computer", "browser", "of next month"]),
)
def test_every_name_becomes_legal_and_comes_back(name: str, toolset_name: str | None) -> None:
    tool = ToolName(name, toolset_name)
    legal = to_upstream_name(name, toolset_name)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", legal)
    assert back(tool) == [tool]
    assert toolset_name or to_upstream_name(legal) == legal


@pytest.mark.parametrize(
    "name",
    [
        "Bash",
        " Bash ",
        "Bash\n",
        '"Bash"',
        "`Bash`",
        "functions.Bash",
        "functions.Bash:0",
        "functions:Bash",
        "Bash:12",
        "default_api:Bash",
        "default_api.Bash",
        "Bash<|channel|>commentary",
        "functions.Bash<|channel|>commentary",
        "Bash<|constrain|>json",
        " Bash <|channel|>json\n",
        "Bash<arg_key>command",
        "Bash<｜tool▁sep｜>",
    ],
)
def test_leftovers_are_removed(name: str) -> None:
    assert find_offered_name(name, {"Bash", "BashOutput", "functions", "commentary"}) == "Bash"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "bash",
        "Bas",
        "BashX",
        "Bash Edit",
        "Bash.Edit",
        "github.Bash",
        "mcp__shell__Bash",
        "my_functions.Bash",
        "functions.functions.Bash",
        "<|channel|>Bash",
        "Bash:a",
        "functions.",
    ],
)
def test_other_names_contain_no_offered_name(name: str) -> None:
    assert find_offered_name(name, {"Bash", "Edit"}) is None


def test_an_offered_name_has_no_leftovers() -> None:
    offered = {"functions.Bash", "Bash", "Bash:0"}
    assert [find_offered_name(name, offered) for name in sorted(offered)] == sorted(offered)


def test_beginnings_may_have_a_namespace() -> None:
    prefixes = NamePrefixes(["read", "read_file", "write"])
    for beginning in ("func", "functions.", "functions.rea", "default_api:write", " read"):
        assert prefixes.any_starts_with(beginning)
    for beginning in ("functions.", "functions.read", " read"):
        assert prefixes.any_extends(beginning)
    for beginning in ("functions.x", "functions.write", "functionsx"):
        assert not prefixes.any_extends(beginning)
    assert not NamePrefixes([]).any_starts_with("functions.")


def test_names_are_found_by_their_beginnings() -> None:
    prefixes = NamePrefixes(["read", "read_file", "write"])
    assert prefixes.any_starts_with("rea")
    assert prefixes.any_starts_with("write")
    assert not prefixes.any_starts_with("x")
    assert prefixes.any_extends("read")
    assert not prefixes.any_extends("write")
