"""Typed tools: each form against the API's types and guides."""

import re
from typing import Any, get_args

import pytest
from anthropic.types.beta import beta_memory_tool_20250818_command as memory

from anthropic_proxy.translate.request.builtin_tools import add_builtin_schema, is_builtin_type

SIZE = {"display_width_px": 1024, "display_height_px": 768}
KNOWN = (
    "bash_20241022",
    "bash_20250124",
    "text_editor_20241022",
    "text_editor_20250124",
    "text_editor_20250429",
    "text_editor_20250728",
    "memory_20250818",
    "computer_20241022",
    "computer_20250124",
    "computer_20251124",
)


def properties(kind: str, **settings: Any) -> dict[str, Any]:
    found: dict[str, Any] = add_builtin_schema({"type": kind, **SIZE, **settings})["input_schema"][
        "properties"
    ]
    return found


@pytest.mark.parametrize("kind", KNOWN)
def test_each_field_and_command_is_explained(kind: str) -> None:
    tool = add_builtin_schema({"type": kind, **SIZE, "enable_zoom": True})
    fields = tool["input_schema"]["properties"]
    commands = [
        each for name in ("command", "action") for each in fields.get(name, {}).get("enum", ())
    ]
    said = set(re.findall(r"\w+", tool["description"]))
    assert said.issuperset(commands)
    assert said.issuperset(fields.keys() - {"command", "action"})
    assert all(field.get("description") for field in fields.values())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bash_20241022", "bash"),
        ("bash_20300101", "bash"),
        ("text_editor_20241022", "str_replace_editor"),
        ("text_editor_20250124", "str_replace_editor"),
        ("text_editor_20250429", "str_replace_based_edit_tool"),
        ("text_editor_20250728", "str_replace_based_edit_tool"),
        ("text_editor_20300101", "str_replace_based_edit_tool"),
        ("text_editor_20240101", "str_replace_editor"),
        ("memory_20300101", "memory"),
        ("computer_20300101", "computer"),
    ],
)
def test_names_are_those_of_the_types(kind: str, name: str) -> None:
    assert add_builtin_schema({"type": kind})["name"] == name
    assert add_builtin_schema({"type": kind, "name": "own"})["name"] == "own"


@pytest.mark.parametrize(
    "kind",
    ["custom", "bash", "bash_x", "computer_toolset_20260801", "web_search_20250305", "a_20250101"],
)
def test_other_types_are_left_alone(kind: str) -> None:
    assert not is_builtin_type(kind)
    assert add_builtin_schema({"type": kind, "name": "x"}) == {"type": kind, "name": "x"}


def test_forms_differ_by_date() -> None:
    assert "insert_text" not in properties("text_editor_20250429")
    assert "insert_text" in properties("text_editor_20250728")
    assert "undo_edit" in properties("text_editor_20250124")["command"]["enum"]
    assert "undo_edit" not in properties("text_editor_20250429")["command"]["enum"]
    assert "scroll" not in properties("computer_20241022")["action"]["enum"]
    assert "scroll" in properties("computer_20250124")["action"]["enum"]


@pytest.mark.parametrize(
    ("kind", "enabled", "has_zoom"),
    [
        ("computer_20250124", True, False),
        ("computer_20251124", None, False),
        ("computer_20251124", False, False),
        ("computer_20251124", True, True),
        ("computer_20300101", True, True),
    ],
)
def test_zoom_is_there_where_it_is_enabled(
    kind: str, *, enabled: bool | None, has_zoom: bool
) -> None:
    fields = properties(kind, enable_zoom=enabled)
    assert ("zoom" in fields["action"]["enum"], "region" in fields) == (has_zoom, has_zoom)


def test_memory_is_what_the_sdk_runs() -> None:
    commands = get_args(get_args(memory.BetaMemoryTool20250818Command)[0])
    fields = {name for command in commands for name in command.model_fields}
    ours = properties("memory_20250818")
    assert ours.keys() == fields
    assert set(ours["command"]["enum"]) == {
        get_args(command.model_fields["command"].annotation)[0] for command in commands
    }
