"""Schemas of tools without the parts that a server refuses; more in tests/cases/refusals."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.adaptation import schema_changes
from anthropic_proxy.wire.json_codec import dumps
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]


def request(schema: Json) -> Json:
    return {"tools": [{"type": "function", "function": {"name": "t", "parameters": schema}}]}


def parameters(body: Json) -> Any:
    return body["tools"][0]["function"]["parameters"]


def without(schema: Json, *keywords: str) -> Any:
    return parameters(schema_changes.drop_schema_keywords(request(schema), keywords))


@pytest.mark.parametrize(
    ("schema", "keywords", "expected"),
    [
        ({"const": 1}, ["const"], {"enum": [1]}),
        ({"const": 1}, ["const", "enum"], {"description": "const: 1"}),
        ({"const": 1, "enum": [1, 2]}, ["const"], {"enum": [1, 2], "description": "const: 1"}),
        ({"oneOf": [{}], "anyOf": []}, ["oneOf"], {"anyOf": [], "description": "oneOf: [{}]"}),
        ({"title": "T", "$id": "x"}, ["title", "$id"], {}),
        ({"additionalProperties": True}, ["additionalProperties"], {}),
        (
            {"additionalProperties": False, "description": ""},
            ["additionalProperties"],
            {"description": "additionalProperties: false"},
        ),
        ({"properties": {"pattern": {}}}, ["pattern"], {"properties": {"pattern": {}}}),
        ({"enum": [{"pattern": "a"}]}, ["pattern"], {"enum": [{"pattern": "a"}]}),
        ({"format": 5}, ["format"], {"description": "format: 5"}),
        # references
        (
            {"$defs": {"A": {"type": "string"}}, "items": {"$ref": "#/$defs/A", "title": "a"}},
            ["$ref"],
            {"items": {"type": "string", "title": "a"}},
        ),
        (
            {
                "definitions": {"A": {"$ref": "#/definitions/A"}},
                "items": {"$ref": "#/definitions/A"},
            },
            ["definitions"],
            {"items": {"description": "$ref: #/definitions/A"}},
        ),
        (
            {"properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}}},
            ["$ref"],
            {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
        ),
        (
            {"items": {"$ref": "other.json"}},
            ["$ref"],
            {"items": {"description": "$ref: other.json"}},
        ),
        ({"items": {"$ref": "#/a/0"}}, ["$ref"], {"items": {"description": "$ref: #/a/0"}}),
        ({"properties": {"$ref": {}}}, ["$ref"], {"properties": {"$ref": {}}}),
        ({"properties": {"$defs": {}}}, ["$defs"], {"properties": {"$defs": {}}}),
    ],
)
def test_drop_schema_keywords(schema: Json, keywords: list[str], expected: Json) -> None:
    original = copy.deepcopy(schema)
    assert without(schema, *keywords) == expected
    assert schema == original


def test_references_that_grow() -> None:
    """Each definition contains the next one twice."""

    def prepare(size: int) -> Callable[[], object]:
        definitions: Json = {}
        for number in range(size):
            reference = {"$ref": f"#/$defs/d{number + 1}"}
            definitions[f"d{number}"] = {"properties": {"a": reference, "b": reference}}
        schema = {"$defs": definitions, "properties": {"a": {"$ref": "#/$defs/d0"}}}
        return lambda: without(schema, "$ref")

    assert_linear_cpu(prepare, 100)
    assert len(dumps(prepare(200)())) < 40_000


def test_definitions_may_be_deep() -> None:
    """JSON may have 200 levels, and a reference may be at the deepest of them."""
    schema: Json = {"$ref": "#/$defs/a"}
    for _ in range(60):
        schema = {"items": schema}
    deep = without({"$defs": {"a": schema}, "items": {"$ref": "#/$defs/a"}}, "$ref")
    assert dumps(deep).count(b"items") < 130


CHANGES: list[Callable[[Json], Json]] = [
    schema_changes.simplify_for_grammar,
    schema_changes.define_items,
    schema_changes.define_properties,
    schema_changes.prune_required_names,
    schema_changes.move_types_into_branches,
    schema_changes.use_single_types,
    schema_changes.use_uniform_items,
    schema_changes.drop_reference_siblings,
    lambda body: schema_changes.drop_schema_keywords(body, schema_changes.DROPPABLE_KEYWORDS),
]

ODD_SCHEMAS: list[Json] = [
    {},
    {"type": "object", "properties": None, "required": None, "items": None, "anyOf": None},
    {"type": ["object"], "properties": [], "required": {}, "items": 5, "anyOf": {}},
    {"type": [], "anyOf": [None, 1, True], "oneOf": [[]], "prefixItems": [True], "enum": None},
    {"type": "array", "items": [], "$ref": 5, "$defs": [], "description": 5},
    {"properties": {"a": None, "b": True, "c": []}, "required": [1, None, {}]},
]


@pytest.mark.parametrize("schema", ODD_SCHEMAS, ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_any_schema_is_changed_once(change: Callable[[Json], Json], schema: Json) -> None:
    original = copy.deepcopy(schema)
    changed = change(request(schema))
    assert isinstance(parameters(changed), dict)
    assert change(changed) == changed
    assert schema == original


@pytest.mark.parametrize("change", CHANGES)
def test_a_request_without_tools_stays(change: Callable[[Json], Json]) -> None:
    body: Json = {"messages": []}
    assert change(body) == body
