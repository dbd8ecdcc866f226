"""JSON schemas: made legal for OpenAI's API, and checked against the subset that its strict mode takes.

What the API or the grammar compilers behind it refuse is not dropped: it moves into a description, where the model reads
it. Sources: OpenAI's guides to function calling and structured outputs ("Supported schemas"); Claude Code's recorded tools.
"""

import operator
import re
from typing import Any

from anthropic_proxy.translate.request.schema_alternatives import (
    TooManyStepsError,
    followed,
    merged,
    own_properties,
    strings_in,
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

# Strict mode wants each schema to say what it is.
_KINDS = frozenset(("type", "enum", "const", "anyOf"))

# Refused at the top of a function's parameters, which must be one object.
_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not", "enum", "if", "then", "else")

# What makes parameters another object than they are at first sight.
_AT_TOP = frozenset((*_ALTERNATIVES, "$ref"))

# Formats that OpenAI documents; others (uri above all) make some servers refuse the whole request.
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas.
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

_FORMAT_OR_PATTERN = re.compile(rb'"(?:format|pattern)":')

# A reference into an alternative at the top.
_REFERENCE = re.compile(r"#/(?:(?:oneOf|anyOf|allOf)/\d+|not|if|then|else)(?=/|$)")
_REFERENCE_IN_TEXT = re.compile(rb'"\$ref":"#/(?:oneOf|anyOf|allOf|not|if|then|else)')

# A property takes seven bytes at least, with its type 20, and one or two steps where alternatives are not nested deeply.
_LEAST_STEPS = 100
_BYTES_PER_STEP = 8


def legal_parameters(schema: JsonObject) -> tuple[JsonObject, str]:
    """Return the parameters of a function, and what had to move out of them: text for the tool's description, often empty.

    OpenAI refuses parameters without `properties`, and alternatives at the top. Those give their properties to the
    object, which requires what all of them require, unless there are too many to put together. A reference at the top,
    alone or as an alternative, is followed; what references into the alternatives mean becomes a definition.
    """
    if _AT_TOP.isdisjoint(schema):
        return legal(
            _object(schema, own_properties(schema), strings_in(schema.get("required")))
        ), ""
    text = dumps(schema)
    definitions = schema = _kept_in_reach(schema, text)
    schema = followed(schema, definitions)
    kept = {name: value for name, value in schema.items() if name not in _ALTERNATIVES}
    alternatives = {name: schema[name] for name in _ALTERNATIVES if name in schema}
    try:
        properties, required = merged(
            schema, definitions, _LEAST_STEPS + len(text) // _BYTES_PER_STEP
        )
    except TooManyStepsError:
        properties, required = own_properties(schema), strings_in(schema.get("required"))
    note = (
        f"The arguments must also match this JSON schema: {dumps(alternatives).decode()}"
        if alternatives
        else ""
    )
    return legal(_object(kept, properties, required)), note


def _object(schema: JsonObject, properties: JsonObject, required: list[str]) -> JsonObject:
    parameters: JsonObject = {**schema, "type": "object", "properties": properties}
    parameters.pop("$schema", None)
    if required or not isinstance(parameters.get("required", []), list):
        parameters["required"] = list(dict.fromkeys(required))
    return parameters


def _kept_in_reach(schema: JsonObject, text: bytes) -> JsonObject:
    """Return the schema with its alternatives as definitions too, if references point into them: they leave the top.

    `text` is the schema's JSON.
    """
    if not _REFERENCE_IN_TEXT.search(text):
        return schema
    places = {path: path[2:].replace("/", "_") + "_" for path in _alternatives(schema)}
    found: JsonObject = _with_references(schema, places)
    if found is schema:
        return schema
    definitions = {places[path]: each for path, each in _alternatives(found).items()}
    own = found.get("$defs")
    return {**found, "$defs": {**definitions, **(own if isinstance(own, dict) else {})}}


def _alternatives(schema: JsonObject) -> JsonObject:
    """Return the alternatives at the top of a schema by the paths that references to them have."""
    found: JsonObject = {}
    for name in _ALTERNATIVES:
        part = schema.get(name)
        if isinstance(part, dict):
            found[f"#/{name}"] = part
        elif isinstance(part, list):
            found |= {f"#/{name}/{place}": each for place, each in enumerate(part)}
    return found


def _with_references(value: Any, places: dict[str, str]) -> Any:
    """Return `value` with references to `places` (by path) made references to definitions; itself if it has none."""
    if isinstance(value, list):
        items = [_with_references(each, places) for each in value]
        return value if all(map(operator.is_, items, value)) else items
    if not isinstance(value, dict):
        return value
    changed = {name: _with_references(each, places) for name, each in value.items()}
    reference = value.get("$ref")
    path = _REFERENCE.match(reference) if isinstance(reference, str) else None
    if path and path[0] in places:
        changed["$ref"] = f"#/$defs/{places[path[0]]}{path.string[path.end() :]}"
    return value if all(map(operator.is_, changed.values(), value.values())) else changed


def legal(schema: Any) -> Any:
    """The schema without formats and patterns that servers refuse; each is said in the description beside it."""
    # Most have none, which their text shows at a fraction of what it takes to look at each of their parts.
    return _legal(schema) if _FORMAT_OR_PATTERN.search(dumps(schema)) else schema


def _legal(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    nested = {name: _nested(name, value) for name, value in schema.items()}
    said = [
        f"{name}: {nested.pop(name)}"
        for name in ("format", "pattern")
        if _is_refused(name, nested.get(name))
    ]
    if said:
        nested["description"] = ". ".join(
            [*filter(None, strings_in([nested.get("description")])), *said]
        )
    return nested


def _nested(name: str, value: Any) -> Any:
    if name in _ONE and not isinstance(value, list):
        return _legal(value)
    if name in (*_MANY, "items") and isinstance(value, list):
        return [_legal(each) for each in value]
    if name in _NAMED and isinstance(value, dict):
        return {key: _legal(each) for key, each in value.items()}
    return value


def _is_refused(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    # Classes of Unicode characters: no grammar compiler and few regular expression engines know them.
    return value not in _FORMATS if name == "format" else "\\p{" in value or "\\P{" in value


def fits_strict(schema: Any) -> bool:
    """Whether strict mode takes the schema as it is: an object at the top, every object closed, every property required."""
    return (
        isinstance(schema, dict)
        and schema.get("type") == "object"
        and "anyOf" not in schema
        and _fits(schema)
    )


def _fits(schema: Any) -> bool:
    if (
        not isinstance(schema, dict)
        or not _STRICT_KEYWORDS.issuperset(schema)
        or _KINDS.isdisjoint(schema)
    ):
        return False
    properties, alternatives = schema.get("properties", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(alternatives, list):
        return False
    if schema.get("type") == "object" or properties:
        closed = schema.get("additionalProperties") is False
        if not closed or set(strings_in(schema.get("required"))) != set(properties):
            return False
    if schema.get("type") == "array" and "items" not in schema:
        return False
    nested = [
        *properties.values(),
        *alternatives,
        *([schema["items"]] if "items" in schema else ()),
    ]
    return all(map(_fits, nested))
