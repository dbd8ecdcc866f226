"""Short words for the JSON schemas of tables: an object, and the kinds of properties that tools have."""

from anthropic_proxy.wire.json_codec import JsonObject


def parameters(required: JsonObject, optional: JsonObject | None = None) -> JsonObject:
    """The schema of an object; both arguments map names of properties to their schemas."""
    schema: JsonObject = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


def string(description: str) -> JsonObject:
    return {"type": "string", "description": description}


def integer(description: str) -> JsonObject:
    return {"type": "integer", "description": description}


def number(description: str) -> JsonObject:
    return {"type": "number", "description": description}


def boolean(description: str) -> JsonObject:
    return {"type": "boolean", "description": description}


def choice(description: str, *values: str) -> JsonObject:
    return {"type": "string", "enum": list(values), "description": description}


def strings(description: str) -> JsonObject:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def integers(count: int, description: str) -> JsonObject:
    """Exactly `count` integers."""
    items: JsonObject = {"type": "integer"}
    return {
        "type": "array",
        "items": items,
        "minItems": count,
        "maxItems": count,
        "description": description,
    }
