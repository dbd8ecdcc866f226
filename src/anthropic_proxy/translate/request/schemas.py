"""Make JSON schemas legal for OpenAI's API, and check them against the subset of its strict mode.

What the API or its grammar compilers refuse moves into a description, where the model reads it.
Sources: OpenAI's guides to function calling and structured outputs ("Supported schemas"); Claude
Code's recorded tools.
"""

import operator
import re
from typing import Any

from anthropic_proxy.translate.request.schema_alternatives import (
    TooManyStepsError,
    filter_strings,
    get_properties,
    merge_alternatives,
    resolve_reference,
)
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_STRICT_KEYWORDS = frozenset(
    (
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "description",
        "title",
    )
)

# Strict mode requires one of these in each schema.
_TYPE_KEYWORDS = frozenset(("type", "enum", "const", "anyOf"))

# Refused at the top of a function's parameters, which must be one object.
_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not", "enum", "if", "then", "else")

# Keywords at the top that require rewriting the parameters.
_REWRITTEN_AT_TOP = frozenset((*_ALTERNATIVES, "$ref"))

# Formats that OpenAI documents; others (uri above all) make some servers refuse the whole request.
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas.
_SCHEMA_KEYWORDS = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
)
_SCHEMA_LIST_KEYWORDS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA_MAP_KEYWORDS = (
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
)

_FORMAT_OR_PATTERN = re.compile(rb'"(?:format|pattern)":')

# A reference into an alternative at the top.
_REFERENCE = re.compile(r"#/(?:(?:oneOf|anyOf|allOf)/\d+|not|if|then|else)(?=/|$)")
_REFERENCE_IN_TEXT = re.compile(rb'"\$ref":"#/(?:oneOf|anyOf|allOf|not|if|then|else)')

# A property takes seven bytes at least, with its type 20, and one or two steps where alternatives are not nested deeply.
_MIN_STEPS = 100
_BYTES_PER_STEP = 8


def to_function_parameters(schema: JsonObject) -> tuple[JsonObject, str]:
    """Return the parameters of a function, and text for the tool's description, often empty.

    OpenAI refuses parameters without `properties`, and alternatives at the top. Those give their
    properties to the object, which requires what all of them require, unless merging takes too many
    steps. A reference at the top, alone or as an alternative, is resolved; references into the
    alternatives become references to definitions.
    """
    if _REWRITTEN_AT_TOP.isdisjoint(schema):
        return sanitize_schema(
            _build_object(schema, get_properties(schema), filter_strings(schema.get("required")))
        ), ""
    text = dumps(schema)
    definitions = schema = _define_alternatives(schema, text)
    schema = resolve_reference(schema, definitions)
    base = {name: value for name, value in schema.items() if name not in _ALTERNATIVES}
    alternatives = {name: schema[name] for name in _ALTERNATIVES if name in schema}
    try:
        properties, required = merge_alternatives(
            schema, definitions, _MIN_STEPS + len(text) // _BYTES_PER_STEP
        )
    except TooManyStepsError:
        properties, required = get_properties(schema), filter_strings(schema.get("required"))
    note = (
        f"The arguments must also match this JSON schema: {dumps(alternatives).decode()}"
        if alternatives
        else ""
    )
    return sanitize_schema(_build_object(base, properties, required)), note


def _build_object(schema: JsonObject, properties: JsonObject, required: list[str]) -> JsonObject:
    parameters: JsonObject = {**schema, "type": "object", "properties": properties}
    parameters.pop("$schema", None)
    if required or not isinstance(parameters.get("required", []), list):
        parameters["required"] = list(dict.fromkeys(required))
    return parameters


def _define_alternatives(schema: JsonObject, text: bytes) -> JsonObject:
    """Copy alternatives to the definitions if references point into them, as they leave the top.

    `text` is the schema's JSON.
    """
    if not _REFERENCE_IN_TEXT.search(text):
        return schema
    definition_names = {
        path: path[2:].replace("/", "_") + "_" for path in _alternatives_by_path(schema)
    }
    rewritten: JsonObject = _rewrite_references(schema, definition_names)
    if rewritten is schema:
        return schema
    definitions = {
        definition_names[path]: each for path, each in _alternatives_by_path(rewritten).items()
    }
    existing = rewritten.get("$defs")
    return {
        **rewritten,
        "$defs": {**definitions, **(existing if isinstance(existing, dict) else {})},
    }


def _alternatives_by_path(schema: JsonObject) -> JsonObject:
    """Return the alternatives at the top of a schema by their reference paths."""
    alternatives: JsonObject = {}
    for name in _ALTERNATIVES:
        part = schema.get(name)
        if isinstance(part, dict):
            alternatives[f"#/{name}"] = part
        elif isinstance(part, list):
            alternatives |= {f"#/{name}/{index}": each for index, each in enumerate(part)}
    return alternatives


def _rewrite_references(value: Any, definition_names: dict[str, str]) -> Any:
    """Replace references to alternatives (by path) by references to definitions.

    Returns `value` itself when it has none.
    """
    if isinstance(value, list):
        items = [_rewrite_references(each, definition_names) for each in value]
        return value if all(map(operator.is_, items, value)) else items
    if not isinstance(value, dict):
        return value
    changed = {name: _rewrite_references(each, definition_names) for name, each in value.items()}
    reference = value.get("$ref")
    path = _REFERENCE.match(reference) if isinstance(reference, str) else None
    if path and path[0] in definition_names:
        changed["$ref"] = f"#/$defs/{definition_names[path[0]]}{path.string[path.end() :]}"
    return value if all(map(operator.is_, changed.values(), value.values())) else changed


def sanitize_schema(schema: Any) -> Any:
    """Move formats and patterns that servers refuse into the description beside them."""
    # Searching the text costs a fraction of walking the schema, and most schemas have neither keyword.
    return _sanitize(schema) if _FORMAT_OR_PATTERN.search(dumps(schema)) else schema


def _sanitize(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    nested = {name: _sanitize_value(name, value) for name, value in schema.items()}
    notes = [
        f"{name}: {nested.pop(name)}"
        for name in ("format", "pattern")
        if _is_unsupported(name, nested.get(name))
    ]
    if notes:
        nested["description"] = ". ".join(
            [*filter(None, filter_strings([nested.get("description")])), *notes]
        )
    return nested


def _sanitize_value(name: str, value: Any) -> Any:
    if name in _SCHEMA_KEYWORDS and not isinstance(value, list):
        return _sanitize(value)
    if name in (*_SCHEMA_LIST_KEYWORDS, "items") and isinstance(value, list):
        return [_sanitize(each) for each in value]
    if name in _SCHEMA_MAP_KEYWORDS and isinstance(value, dict):
        return {key: _sanitize(each) for key, each in value.items()}
    return value


def _is_unsupported(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    # Classes of Unicode characters: no grammar compiler and few regular expression engines know them.
    return value not in _FORMATS if name == "format" else "\\p{" in value or "\\P{" in value


def is_strict_compatible(schema: Any) -> bool:
    """Return whether strict mode accepts the schema: an object at the top, all objects closed, all
    properties required.
    """
    return (
        isinstance(schema, dict)
        and schema.get("type") == "object"
        and "anyOf" not in schema
        and _is_strict(schema)
    )


def _is_strict(schema: Any) -> bool:
    if (
        not isinstance(schema, dict)
        or not _STRICT_KEYWORDS.issuperset(schema)
        or _TYPE_KEYWORDS.isdisjoint(schema)
    ):
        return False
    properties, alternatives = schema.get("properties", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(alternatives, list):
        return False
    if schema.get("type") == "object" or properties:
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or set(filter_strings(schema.get("required"))) != set(properties):
            return False
    if schema.get("type") == "array" and "items" not in schema:
        return False
    nested = [
        *properties.values(),
        *alternatives,
        *([schema["items"]] if "items" in schema else ()),
    ]
    return all(map(_is_strict, nested))
