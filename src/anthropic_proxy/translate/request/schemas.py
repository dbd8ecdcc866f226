"""JSON schemas: made legal for OpenAI's API, and checked against the subset that its strict mode takes.

What the API or the grammar compilers behind it refuse is not dropped: it moves into a description, where the model reads
it. Sources: OpenAI's guides to function calling and structured outputs ("Supported schemas"); Claude Code's recorded tools.
"""

import re
from collections.abc import Iterable
from typing import Any

from anthropic_proxy.wire.codec import JsonObject, dumps

_STRICT_KEYWORDS = frozenset(
    ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "description", "title")
)

# Strict mode wants each schema to say what it is.
_KINDS = frozenset(("type", "enum", "const", "anyOf"))

# Refused at the top of a function's parameters, which must be one object.
_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not", "enum", "if", "then", "else")

# What makes parameters another object than they are at first sight.
_AT_TOP = frozenset((*_ALTERNATIVES, "$ref"))

# Formats that OpenAI documents; others (uri above all) make some servers refuse the whole request.
_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"))

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas.
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_BRANCHES = ("allOf", "anyOf", "oneOf")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

_FORMAT_OR_PATTERN = re.compile(rb'"(?:format|pattern)":')

# A reference into an alternative at the top.
_REFERENCE = re.compile(r"#/(?:(?:oneOf|anyOf|allOf)/\d+|not|if|then|else)(?=/|$)")


def legal_parameters(schema: JsonObject) -> tuple[JsonObject, str]:
    """Parameters of a function, and what had to move out of them: text for the tool's description, often empty.

    OpenAI refuses parameters without `properties`, and alternatives at the top. Those give their properties to the
    object, which requires what all of them require. A reference at the top, alone or as an alternative, is followed; what
    references into the alternatives mean becomes a definition.
    """
    if _AT_TOP.isdisjoint(schema):
        return legal(_object(schema, _own(schema), _strings(schema.get("required")))), ""
    definitions = schema = _kept_in_reach(schema)
    schema = _followed(schema, definitions)
    kept = {name: value for name, value in schema.items() if name not in _ALTERNATIVES}
    alternatives = {name: schema[name] for name in _ALTERNATIVES if name in schema}
    flat = schema | {name: [_followed(each, definitions) for each in _schemas(schema.get(name))] for name in _BRANCHES}
    merged = _object(kept, _properties(flat), _required(flat))
    note = f"The arguments must also match this JSON schema: {dumps(alternatives).decode()}" if alternatives else ""
    return legal(merged), note


def _object(schema: JsonObject, properties: JsonObject, required: list[str]) -> JsonObject:
    merged: JsonObject = {**schema, "type": "object", "properties": properties}
    merged.pop("$schema", None)
    if required or not isinstance(merged.get("required", []), list):
        merged["required"] = list(dict.fromkeys(required))
    return merged


def _own(schema: JsonObject) -> JsonObject:
    own = schema.get("properties")
    return own if isinstance(own, dict) else {}


def _kept_in_reach(schema: JsonObject) -> JsonObject:
    """The schema with its alternatives as definitions too, where references point into them: at the top they go."""
    parts = {name: schema[name] for name in _ALTERNATIVES if name in schema}
    named = {f"#/{name}": part for name, part in parts.items() if isinstance(part, dict)}
    lists = {name: part for name, part in parts.items() if isinstance(part, list)}
    named |= {f"#/{name}/{place}": each for name, part in lists.items() for place, each in enumerate(part)}
    places = {path: path[2:].replace("/", "_") + "_" for path in named}
    found: JsonObject = _with_references(schema, places) if places else schema
    if found == schema:
        return schema
    definitions = {places[path]: _with_references(each, places) for path, each in named.items()}
    own = found.get("$defs")
    return {**found, "$defs": {**definitions, **(own if isinstance(own, dict) else {})}}


def _with_references(value: Any, places: dict[str, str]) -> Any:
    """`value` with references to `places` (by path) made references to the definitions that they are now."""
    if isinstance(value, list):
        return [_with_references(each, places) for each in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _with_references(each, places) for name, each in value.items()}
    path = _REFERENCE.match(value["$ref"]) if isinstance(value.get("$ref"), str) else None
    if path and path[0] in places:
        changed["$ref"] = f"#/$defs/{places[path[0]]}{value['$ref'][path.end() :]}"
    return changed


def _followed(schema: JsonObject, definitions: JsonObject) -> JsonObject:
    """What a reference to one of the definitions stands for, with what stands beside it; any other schema as it is."""
    path = str(schema.get("$ref")).split("/")
    named = definitions.get(path[1]) if len(path) == 3 and path[0] == "#" else None
    meant = named.get(path[2]) if isinstance(named, dict) else None
    if not isinstance(meant, dict):
        return schema
    return meant | {name: value for name, value in schema.items() if name != "$ref"}


def legal(schema: Any) -> Any:
    """The schema without formats and patterns that servers refuse; each is said in the description beside it."""
    # Most have none, which their text shows at a fraction of what it takes to look at each of their parts.
    return _legal(schema) if _FORMAT_OR_PATTERN.search(dumps(schema)) else schema


def _legal(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    nested = {name: _nested(name, value) for name, value in schema.items()}
    said = [f"{name}: {nested.pop(name)}" for name in ("format", "pattern") if _is_refused(name, nested.get(name))]
    if said:
        nested["description"] = ". ".join([*filter(None, _strings([nested.get("description")])), *said])
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


def _properties(schema: JsonObject) -> JsonObject:
    """The properties of the object and of its branches; its own go first."""
    properties: JsonObject = {}
    for part in _schemas(schema.get("allOf")):
        properties.update(_properties(part))
    for name in ("anyOf", "oneOf"):
        properties.update(_either(map(_properties, _schemas(schema.get(name)))))
    return {**properties, **_own(schema)}


def _either(alternatives: Iterable[JsonObject]) -> JsonObject:
    """The properties that alternatives have. Those that differ (the `kind` that tells them apart) may be any of theirs."""
    found: dict[str, dict[bytes, Any]] = {}
    for properties in alternatives:
        for name, schema in properties.items():
            found.setdefault(name, {})[dumps(schema)] = schema
    return {
        name: {"anyOf": [*each.values()]} if len(each) > 1 else next(iter(each.values())) for name, each in found.items()
    }


def _required(schema: JsonObject) -> list[str]:
    """Own requirements, those of every `allOf`, and those that all of `anyOf` or `oneOf` share."""
    required = _strings(schema.get("required"))
    for part in _schemas(schema.get("allOf")):
        required += _required(part)
    for name in ("anyOf", "oneOf"):
        each = [_required(part) for part in _schemas(schema.get(name))]
        shared = set(each[0]).intersection(*each[1:]) if each else set()
        required += [key for key in each[0] if key in shared] if each else []
    return list(dict.fromkeys(required))


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _schemas(value: Any) -> list[JsonObject]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def fits_strict(schema: Any) -> bool:
    """Whether strict mode takes the schema as it is: an object at the top, every object closed, every property required."""
    return isinstance(schema, dict) and schema.get("type") == "object" and "anyOf" not in schema and _fits(schema)


def _fits(schema: Any) -> bool:
    if not isinstance(schema, dict) or not _STRICT_KEYWORDS.issuperset(schema) or _KINDS.isdisjoint(schema):
        return False
    properties, alternatives = schema.get("properties", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(alternatives, list):
        return False
    if schema.get("type") == "object" or properties:
        closed = schema.get("additionalProperties") is False
        if not closed or set(_strings(schema.get("required"))) != set(properties):
            return False
    if schema.get("type") == "array" and "items" not in schema:
        return False
    nested = [*properties.values(), *alternatives, *([schema["items"]] if "items" in schema else ())]
    return all(map(_fits, nested))
