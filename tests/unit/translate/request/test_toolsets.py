"""Toolsets: members and schemas against the official SDK's types, which run them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.lib.tools._toolsets._computer_registry import COMPUTER
from anthropic.lib.tools._toolsets._registry import BROWSER

from anthropic_proxy.translate.request.toolsets import (
    expand_members,
    list_unknown_members,
    parse_toolset_family,
)

REGISTRIES: dict[str, Any] = {"computer": COMPUTER, "browser": BROWSER}
ALL = [
    pytest.param(family, name, id=f"{family}.{name}")
    for family in REGISTRIES
    for name in REGISTRIES[family].members
]


def offered(family: str, configs: Any = None) -> dict[str, dict[str, Any]]:
    found = expand_members({"type": f"{family}_toolset_20260801", "configs": configs})
    assert found is not None
    return {member["name"]: member for member in found}


@pytest.mark.parametrize("family", REGISTRIES)
def test_the_members_are_the_sdks(family: str) -> None:
    registry = REGISTRIES[family]
    assert (
        offered(family, {name: {"enabled": True} for name in registry.members}).keys()
        == registry.members.keys()
    )
    assert offered(family).keys() == registry.members.keys() - registry.default_disabled


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_schema_is_that_of_the_sdks_type(family: str, name: str) -> None:
    schema = offered(family, {name: {"enabled": True}})[name]["input_schema"]
    expected = REGISTRIES[family].members[name].input.model_json_schema()
    assert set(schema["properties"]) == set(expected["properties"])
    assert set(schema.get("required", ())) == set(expected.get("required", ()))
    for field, ours in schema["properties"].items():
        theirs = _resolved(expected["properties"][field], expected.get("$defs", {}))
        assert _kinds(ours) == _kinds(theirs), field


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_member_and_its_fields_are_described(family: str, name: str) -> None:
    """The descriptions are all that the model knows of a tool."""
    member = offered(family, {name: {"enabled": True}})[name]
    assert re.fullmatch(r"[A-Z].{9,}\.", member["description"])
    for field, schema in member["input_schema"]["properties"].items():
        descriptions = list(_descriptions(schema))
        assert descriptions, field
        assert all(re.fullmatch(r"\S.{3,}", each) for each in descriptions), descriptions


@pytest.mark.parametrize("family", REGISTRIES)
@pytest.mark.parametrize(
    "config",
    [None, {}, {"enabled": True}, {"enabled": False}, {"enabled": "yes"}, {"enabled": 1}, False],
)
def test_configs_mean_what_they_mean_to_the_sdk(family: str, config: Any) -> None:
    registry = REGISTRIES[family]
    for name in registry.members:
        assert (name in offered(family, {name: config})) is registry.member_enabled(
            name, {name: config}
        )


@pytest.mark.parametrize("configs", [None, {}, [], "x"])
def test_no_configs_are_the_defaults(configs: Any) -> None:
    assert offered("computer", configs) == offered("computer")


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("computer_toolset_20260801", "computer"),
        ("browser_toolset_20991231", "browser"),
        ("toaster_toolset_20260801", None),
        ("mcp_toolset", None),
        ("computer_20250124", None),
        ("", None),
    ],
)
def test_family(kind: str, family: str | None) -> None:
    assert parse_toolset_family(kind) == family
    assert (expand_members({"type": kind}) is None) is (family is None)


def test_members_that_are_not_known_are_noted() -> None:
    assert list_unknown_members({"type": "browser_toolset_20260801", "configs": {"fly": {}}}) == {
        "toolset member browser.fly"
    }
    assert list_unknown_members({"type": "mcp_toolset", "configs": {"fly": {}}}) == set()


def _resolved(schema: Any, definitions: Any) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _resolved(value, definitions) for name, value in schema.items()}
    return [_resolved(each, definitions) for each in schema] if isinstance(schema, list) else schema


def _kinds(schema: Any) -> set[Any]:
    """Return the types that a schema allows, with names of objects and values of strings."""
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return {kind for each in alternatives for kind in _kinds(each)} - {"null"}
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if schema.get("type") == "object":
        return {
            (name, *sorted(map(str, _kinds(each)))) for name, each in schema["properties"].items()
        }
    if schema.get("type") == "array":
        return {("array", *_kinds(schema["items"]))}
    return {(schema["type"], *sorted(values))} if values else {schema["type"]}


def _descriptions(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("description"), str):
            yield schema["description"]
        for each in schema.values():
            yield from _descriptions(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _descriptions(each)
