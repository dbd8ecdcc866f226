"""The types in the schemas of the offered tools."""

from typing import Any

import pytest

from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools, convert_text

SCHEMAS: dict[str, tuple[Any, set[str]]] = {
    "array": ({"type": "array"}, {"array"}),
    "nullable": ({"type": ["array", "null"]}, {"array", "null"}),
    "alternatives": (
        {"anyOf": [{"type": "object"}, {"oneOf": [{"type": "null"}]}]},
        {"object", "null"},
    ),
    "string": ({"type": "string"}, set()),
    "string or number": ({"type": ["string", "number"]}, set()),
    "string as an alternative": ({"anyOf": [{"type": "array"}, {"type": "string"}]}, set()),
    "any value as an alternative": ({"anyOf": [{"type": "array"}, {}]}, set()),
    "a constant as an alternative": ({"oneOf": [{"type": "array"}, {"enum": ["all"]}]}, set()),
    "a reference as an alternative": ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}, set()),
    "reference": ({"$ref": "#/$defs/a"}, set()),
    "nothing": ({}, set()),
    "true": (True, set()),
    "unknown type": ({"type": "file"}, set()),
}


@pytest.mark.parametrize(("schema", "types"), SCHEMAS.values(), ids=SCHEMAS)
def test_members_without_strings(schema: Any, types: set[str]) -> None:
    tools = OfferedTools({"Bash": {"properties": {"a": schema}}})
    assert tools.get_members_without_strings("functions.Bash") == ({"a": types} if types else {})


@pytest.mark.parametrize("schema", [{}, {"properties": []}, {"properties": None}])
def test_tools_without_members(schema: Any) -> None:
    assert OfferedTools({"Bash": schema}).get_members_without_strings("Bash") == {}
    assert OfferedTools({"Bash": schema}).get_members_without_strings("Read") == {}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", '{"a": Infinity}'])
def test_numbers_that_json_does_not_have_stay_text(text: str) -> None:
    assert convert_text(text, frozenset({"number", "array", "object"})) == text


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ("[1]", [1]), ("{'a': 1,}", {"a": 1}), ("None", None)]
)
def test_text_of_a_type(text: str, value: Any) -> None:
    types = frozenset({"number", "array", "object", "null"})
    assert convert_text(text, types) == value
    assert convert_text(text, frozenset({"string", *types})) == text
