"""Schemas: what OpenAI's strict mode takes, and what becomes legal."""

from typing import Any

import pytest

from anthropic_proxy.translate.request.schemas import fits_strict, legal_parameters

CLOSED: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


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
    ],
)
def test_fits_strict(schema: Any, fits: bool) -> None:  # noqa: FBT001 - a parameter
    assert fits_strict(schema) is fits


def test_legal_parameters_keep_the_meaning() -> None:
    schema = {"$schema": "x", "type": "object", "required": ["a"], "properties": {"a": {"format": "uri"}}}
    assert legal_parameters(schema) == {"type": "object", "required": ["a"], "properties": {"a": {"format": "uri"}}}
    assert legal_parameters({}) == {"type": "object", "properties": {}}
    assert schema["$schema"] == "x", "the request is not changed"
