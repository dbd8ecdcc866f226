"""Builders of JSON schemas for tools."""

from anthropic_proxy.wire.json_codec import JsonObject


def object_schema(required: JsonObject, optional: JsonObject | None = None) -> JsonObject:
    """Return the schema of an object; the arguments map property names to schemas."""
    schema: JsonObject = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


def string_schema(description: str) -> JsonObject:
    return {"type": "string", "description": description}


def integer_schema(description: str) -> JsonObject:
    return {"type": "integer", "description": description}


def number_schema(description: str) -> JsonObject:
    return {"type": "number", "description": description}


def boolean_schema(description: str) -> JsonObject:
    return {"type": "boolean", "description": description}


def enum_schema(description: str, *values: str) -> JsonObject:
    return {"type": "string", "enum": list(values), "description": description}


def string_list_schema(description: str) -> JsonObject:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def integer_list_schema(count: int, description: str) -> JsonObject:
    """Return the schema of a list of exactly `count` integers."""
    items: JsonObject = {"type": "integer"}
    return {
        "type": "array",
        "items": items,
        "minItems": count,
        "maxItems": count,
        "description": description,
    }
