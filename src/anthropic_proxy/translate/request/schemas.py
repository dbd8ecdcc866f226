"""JSON schemas: made legal for OpenAI's API, and checked against the subset that its strict mode takes.

Source: OpenAI's guide to structured outputs, "Supported schemas".
"""

from typing import Any

from anthropic_proxy.wire.codec import JsonObject

_STRICT_KEYWORDS = frozenset(
    ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "description", "title")
)


def legal_parameters(schema: JsonObject) -> JsonObject:
    """The schema of a function's parameters: OpenAI refuses one that has no `properties`, and `$schema` says nothing."""
    kept = {name: value for name, value in schema.items() if name != "$schema"}
    return {"type": "object", "properties": {}, **kept}


def fits_strict(schema: Any) -> bool:
    """Whether strict mode takes the schema as it is: every object closed, and every property required."""
    if not isinstance(schema, dict) or not _STRICT_KEYWORDS.issuperset(schema):
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or properties:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(properties):
            return False
    nested = [*properties.values(), *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return all(map(fits_strict, nested))
