"""Rewrite the schemas inside a JSON schema.

Only values that are schemas are rewritten: a property may have the name of a keyword, and an
example may look like a schema.
"""

from collections.abc import Callable
from operator import is_not
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas.
_SCHEMA_KEYWORDS = frozenset(
    (
        "items",
        "additionalItems",
        "additionalProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
    )
)
_SCHEMA_LIST_KEYWORDS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems", "items"))
_SCHEMA_MAP_KEYWORDS = frozenset(
    ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
)


def rewrite_schemas(schema: Any, rewrite: Callable[[JsonObject], JsonObject]) -> Any:
    """Return the schema after `rewrite` of each object schema in it, the innermost first.

    Unchanged schemas are returned as they are, without a copy. `rewrite` must not change its
    argument.
    """
    if not isinstance(schema, dict):
        return schema
    rewritten = schema
    for name, value in schema.items():
        if not isinstance(value, dict | list):
            continue
        new_value = _rewrite_keyword(name, value, rewrite)
        if new_value is not value:
            if rewritten is schema:
                rewritten = dict(schema)
            rewritten[name] = new_value
    return rewrite(rewritten)


def _rewrite_keyword(
    name: str, value: JsonObject | list[Any], rewrite: Callable[[JsonObject], JsonObject]
) -> Any:
    if isinstance(value, list):
        if name not in _SCHEMA_LIST_KEYWORDS:
            return value
        schemas = [rewrite_schemas(schema, rewrite) for schema in value]
        is_new = any(map(is_not, schemas, value))
        return schemas if is_new else value
    if name in _SCHEMA_KEYWORDS:
        return rewrite_schemas(value, rewrite)
    if name not in _SCHEMA_MAP_KEYWORDS:
        return value
    schemas_by_name = {key: rewrite_schemas(schema, rewrite) for key, schema in value.items()}
    is_new = any(map(is_not, schemas_by_name.values(), value.values()))
    return schemas_by_name if is_new else value


def add_notes(schema: JsonObject, notes: list[str]) -> JsonObject:
    """Return the schema with the notes at the end of its description."""
    if not notes:
        return schema
    description = schema.get("description")
    if isinstance(description, str) and description:
        notes = [description, *notes]
    return {**schema, "description": ". ".join(notes)}
