"""Schemas: what OpenAI's strict mode takes, and what becomes legal."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.request.schemas import is_strict_compatible, to_function_parameters

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}


def closed(**properties: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (CLOSED, True),
        (closed(a={"type": "string", "enum": ["x"]}), True),
        (closed(a={"type": "array", "items": closed(b={"type": "integer"})}), True),
        (closed(a={"anyOf": [{"type": "string"}, {"type": "null"}]}), True),
        ({**closed(a={"type": "string"}), "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({"type": "object"}, False),
        (closed(a={"type": "object", "properties": {}}), False),
        (closed(a={"type": "string", "pattern": "x"}), False),
        (closed(a={"type": "array", "items": {"type": "object"}}), False),
        (closed(a={"anyOf": [{"type": "object"}]}), False),
        ({**CLOSED, "$defs": {}}, False),
        (True, False),
        ({**CLOSED, "required": None, "anyOf": None}, False),
        ({**CLOSED, "properties": 5}, False),
        ({}, False),
        (closed(a={"title": "Any"}), False),
        ({"type": "array", "items": CLOSED}, False),
        (closed(a={"type": "array"}), False),
    ],
)
def test_fits_strict(schema: Any, fits: bool) -> None:
    assert is_strict_compatible(schema) is fits


@pytest.mark.parametrize(
    ("schema", "parameters", "note"),
    [
        ({}, {"type": "object", "properties": {}}, ""),
        (
            {"$schema": "x", "type": "object", "required": []},
            {"type": "object", "properties": {}, "required": []},
            "",
        ),
        (
            {
                "type": "object",
                "properties": {"format": {"type": "string", "format": "date"}},
                "required": ["format"],
            },
            {
                "type": "object",
                "properties": {"format": {"type": "string", "format": "date"}},
                "required": ["format"],
            },
            "",
        ),
        (
            {
                "properties": {
                    "a": {"format": "uri"},
                    "b": {"items": {"description": "A name", "pattern": "^\\p{L}+$"}},
                }
            },
            {
                "type": "object",
                "properties": {
                    "a": {"description": "format: uri"},
                    "b": {"items": {"description": "A name. pattern: ^\\p{L}+$"}},
                },
            },
            "",
        ),
        (
            {
                "oneOf": [
                    {"properties": {"a": {}, "c": {}}, "required": ["a", "c"]},
                    {"properties": {"b": {}, "c": {}}, "required": ["b", "c"]},
                ]
            },
            {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["c"]},
            (
                "The arguments must also match this JSON schema: "
                '{"oneOf":[{"properties":{"a":{},"c":{}},"required":["a","c"]},'
                '{"properties":{"b":{},"c":{}},"required":["b","c"]}]}'
            ),
        ),
        (
            {
                "properties": {"x": {}},
                "required": ["x"],
                "allOf": [{"properties": {"y": {}}, "required": ["y"]}, True],
            },
            {"type": "object", "properties": {"x": {}, "y": {}}, "required": ["x", "y"]},
            (
                "The arguments must also match this JSON schema: "
                '{"allOf":[{"properties":{"y":{}},"required":["y"]},true]}'
            ),
        ),
        (
            {
                "$ref": "#/$defs/N",
                "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}, "required": ["n"]}},
            },
            {
                "type": "object",
                "properties": {"n": {"$ref": "#/$defs/N"}},
                "required": ["n"],
                "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}, "required": ["n"]}},
            },
            "",
        ),
        (
            {
                "anyOf": [
                    {"$ref": "#/definitions/A"},
                    {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
                ],
                "definitions": {
                    "A": {
                        "properties": {"kind": {"const": "a"}, "x": {}},
                        "required": ["x", "kind"],
                    }
                },
            },
            {
                "type": "object",
                "properties": {"kind": {"anyOf": [{"const": "a"}, {"const": "b"}]}, "x": {}},
                "required": ["kind"],
                "definitions": {
                    "A": {
                        "properties": {"kind": {"const": "a"}, "x": {}},
                        "required": ["x", "kind"],
                    }
                },
            },
            (
                "The arguments must also match this JSON schema: "
                '{"anyOf":[{"$ref":"#/definitions/A"},'
                '{"properties":{"kind":{"const":"b"}},"required":["kind"]}]}'
            ),
        ),
        (
            {
                "$defs": {"N": {"$ref": "#/not"}},
                "not": {"const": 1},
                "anyOf": [
                    {"properties": {"a": {"$ref": "#/anyOf/1/properties/b"}}},
                    {"properties": {"b": {"type": "null"}}},
                ],
            },
            {
                "$defs": {
                    "not_": {"const": 1},
                    "anyOf_0_": {"properties": {"a": {"$ref": "#/$defs/anyOf_1_/properties/b"}}},
                    "anyOf_1_": {"properties": {"b": {"type": "null"}}},
                    "N": {"$ref": "#/$defs/not_"},
                },
                "type": "object",
                "properties": {
                    "a": {"$ref": "#/$defs/anyOf_1_/properties/b"},
                    "b": {"type": "null"},
                },
            },
            (
                "The arguments must also match this JSON schema: "
                '{"anyOf":[{"properties":{"a":{"$ref":"#/$defs/anyOf_1_/properties/b"}}},'
                '{"properties":{"b":{"type":"null"}}}],'
                '"not":{"const":1}}'
            ),
        ),
        ({"$ref": "#/$defs/N"}, {"$ref": "#/$defs/N", "type": "object", "properties": {}}, ""),
        (
            {"required": "a", "properties": {"a": {"format": "uri", "description": 5}}},
            {"type": "object", "required": [], "properties": {"a": {"description": "format: uri"}}},
            "",
        ),
        (
            {"properties": {"a": {"items": [{"format": "uri"}]}}},
            {"type": "object", "properties": {"a": {"items": [{"description": "format: uri"}]}}},
            "",
        ),
    ],
    ids=[
        "empty",
        "$schema",
        "a property named format",
        "format and pattern",
        "oneOf",
        "allOf",
        "a reference",
        "references, told apart by a property",
        "references into alternatives",
        "reference to nothing",
        "junk",
        "items in a list",
    ],
)
def test_legal_parameters(schema: dict[str, Any], parameters: dict[str, Any], note: str) -> None:
    before = copy.deepcopy(schema)
    assert to_function_parameters(schema) == (parameters, note)
    assert schema == before, "the request is not changed"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3),
        lambda each: (
            st.lists(each, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "$ref",
                        "description",
                        "properties",
                        "anyOf",
                        "allOf",
                        "oneOf",
                        "items",
                        "required",
                        "format",
                        "pattern",
                        "$defs",
                        "not",
                    ]
                ),
                each,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_schema_becomes_one_object(schema: Any) -> None:
    parameters, _ = to_function_parameters(schema if isinstance(schema, dict) else {})
    assert is_strict_compatible(schema) in (True, False)
    assert parameters["type"] == "object"
    assert isinstance(parameters["properties"], dict)
    assert not parameters.keys() & {"anyOf", "allOf", "oneOf", "not", "$schema"}


@pytest.mark.parametrize(
    "place",
    [
        lambda schema: {"items": schema},
        lambda schema: {"additionalProperties": schema},
        lambda schema: {"not": schema},
        lambda schema: {"if": schema},
        lambda schema: {"then": schema},
        lambda schema: {"else": schema},
        lambda schema: {"contains": schema},
        lambda schema: {"propertyNames": schema},
        lambda schema: {"anyOf": [schema]},
        lambda schema: {"oneOf": [True, schema]},
        lambda schema: {"allOf": [schema, True]},
        lambda schema: {"prefixItems": [schema]},
        lambda schema: {"properties": {"b": schema}},
        lambda schema: {"patternProperties": {"b": schema}},
        lambda schema: {"$defs": {"b": schema}},
        lambda schema: {"definitions": {"b": schema}},
        lambda schema: {"dependentSchemas": {"b": schema}},
    ],
)
def test_formats_are_described_wherever_a_schema_can_be(place: Callable[[Any], Any]) -> None:
    def within(schema: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"a": place(schema)}}

    parameters, _ = to_function_parameters(within({"type": "string", "format": "uri"}))
    assert parameters == within({"type": "string", "description": "format: uri"})


def test_alternatives_that_take_too_many_steps_are_not_merged() -> None:
    definition: Any = {"properties": {f"p{number}": {} for number in range(50)}}
    schema = {"$defs": {"N": definition}, "anyOf": [{"$ref": "#/$defs/N"}] * 50}
    parameters, note = to_function_parameters(schema | {"properties": {"x": {}}})
    assert parameters["properties"] == {"x": {}}
    assert note.startswith("The arguments must also match this JSON schema")


def test_alternatives_of_different_sizes_are_united() -> None:
    small = {"properties": {"kind": {"const": "a"}}, "required": ["kind"]}
    large = {"properties": {"kind": {"const": "b"}, "x": {}}, "required": ["kind", "x"]}
    parameters, _ = to_function_parameters({"anyOf": [small, large]})
    assert parameters["properties"] == {
        "kind": {"anyOf": [{"const": "a"}, {"const": "b"}]},
        "x": {},
    }
    assert parameters["required"] == ["kind"]


def test_a_reference_into_an_alternative_that_is_missing_stays() -> None:
    schema = {"properties": {"a": {"$ref": "#/anyOf/7"}}, "anyOf": [{"required": ["a"]}]}
    parameters, _ = to_function_parameters(schema)
    assert parameters["properties"] == schema["properties"]
    assert "$defs" not in parameters


@pytest.mark.parametrize("schema", [[], {"type": "object", "properties": {"a": []}}])
def test_what_is_no_schema_is_not_strict(schema: Any) -> None:
    assert not is_strict_compatible(schema)


_NESTED_REPAIRS: list[tuple[str, Any, Any]] = [
    ("array without items", {"type": "array"}, {"type": "array", "items": {}}),
    ("array or null", {"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
    (
        "array within an array",
        {"type": "array", "items": {"type": "array"}},
        {"type": "array", "items": {"type": "array", "items": {}}},
    ),
    (
        "array within an alternative",
        {"anyOf": [{"type": "array"}, {"type": "null"}]},
        {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}]},
    ),
    ("items of any kind", {"type": "array", "items": True}, {"type": "array", "items": {}}),
    (
        "required name without a property",
        {"type": "object", "properties": {"a": {}}, "required": ["a", "b"]},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
    ),
    (
        "only required names without a property",
        {"type": "object", "properties": {}, "required": ["b"]},
        {"type": "object", "properties": {}},
    ),
    ("required of JSON Schema 3", {"type": "string", "required": True}, {"type": "string"}),
    (
        "property of any kind",
        {"properties": {"x": True, "y": False}},
        {"properties": {"x": {}, "y": False}},
    ),
]

_NESTED_UNCHANGED: list[tuple[str, Any]] = [
    (
        "the alternatives define the property",
        {
            "properties": {"a": {}},
            "anyOf": [{"properties": {"b": {}}}],
            "required": ["a", "b"],
        },
    ),
    ("alternatives that only require", {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
    (
        "a reference defines the property",
        {"$ref": "#/$defs/a", "properties": {}, "required": ["b"]},
    ),
    ("values are no schemas", {"default": {"type": "array"}, "enum": [{"type": "array"}, True]}),
    (
        "properties with names of keywords",
        {"properties": {"type": {}, "required": {}, "items": {}}},
    ),
    ("additional properties of any kind", {"type": "object", "additionalProperties": True}),
    ("items are there", {"type": "array", "items": {"type": "string"}}),
]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        *[pytest.param(*case[1:], id=case[0]) for case in _NESTED_REPAIRS],
        *[pytest.param(case[1], case[1], id=case[0]) for case in _NESTED_UNCHANGED],
    ],
)
def test_parts_that_servers_refuse_are_rewritten(schema: Any, expected: Any) -> None:
    original = copy.deepcopy(schema)
    parameters, _ = to_function_parameters({"type": "object", "properties": {"p": schema}})
    assert parameters == {"type": "object", "properties": {"p": expected}}
    assert schema == original
