"""Changes of the schemas of a request's tools, for servers that refuse a part of JSON Schema.

Each change applies to all tools, because a server refuses a keyword in each of them. What the
schema then no longer states moves into a description, so the model can still read it.
"""

from collections.abc import Callable, Collection
from typing import Any

from anthropic_proxy.translate.request.schema_tree import add_notes, rewrite_schemas
from anthropic_proxy.translate.request.schemas import is_array, prune_required
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Keywords that can be dropped. The other ones are the structure of the arguments: `type`,
# `properties`, `required`, `items` and `description`.
DROPPABLE_KEYWORDS = frozenset(
    (
        *("$schema", "$id", "$anchor", "$comment", "$ref", "$defs", "definitions"),
        *("title", "default", "examples", "deprecated", "readOnly", "writeOnly", "nullable"),
        *("enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then", "else"),
        *("format", "pattern", "minLength", "maxLength", "contentEncoding", "contentMediaType"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("prefixItems", "additionalItems", "unevaluatedItems"),
        *("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties"),
        *("dependencies", "dependentRequired", "dependentSchemas"),
    )
)

# Keywords for which grammar compilers fail, depending on their values. llama.cpp and LM Studio:
# patterns, and more than 2,000 repetitions; xgrammar: most of the others.
GRAMMAR_KEYWORDS = frozenset(
    (
        *("format", "pattern", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
        *("not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas"),
    )
)

# Keywords that do not limit the arguments, or mean the same as their absence.
_SILENT_KEYWORDS = frozenset(("$schema", "$id", "$anchor", "$comment", "title"))
_REFERENCE_KEYWORDS = frozenset(("$ref", "$defs", "definitions"))
_REPLACEMENTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "const": ("enum", lambda value: [value]),
    "oneOf": ("anyOf", lambda branches: branches),
}

# A schema has at least this number of bytes for each step of the resolution of its references.
_BYTES_PER_STEP = 8
_MIN_STEPS = 100
# In levels of JSON. References in deeper levels are not resolved: JSON has a limited depth.
_MAX_REFERENCE_DEPTH = 40


def change_parameters(body: JsonObject, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """Return the request with changed parameters of its tools."""
    if "tools" not in body:
        return body
    tools = []
    for tool in body["tools"]:
        function = tool["function"]
        parameters = change(function["parameters"])
        tools.append({**tool, "function": {**function, "parameters": parameters}})
    return {**body, "tools": tools}


def _change_schemas(body: JsonObject, rewrite: Callable[[JsonObject], JsonObject]) -> JsonObject:
    return change_parameters(body, lambda parameters: rewrite_schemas(parameters, rewrite))


def drop_schema_keywords(body: JsonObject, keywords: Collection[str]) -> JsonObject:
    """Return the request without these keywords of `DROPPABLE_KEYWORDS`.

    `const` and `oneOf` become `enum` and `anyOf`, and references are replaced by what they refer
    to. The descriptions have the values of the other ones.
    """

    def drop(schema: JsonObject) -> JsonObject:
        return _drop_keywords(schema, keywords)

    if "tools" not in body:
        return body
    if not _REFERENCE_KEYWORDS.isdisjoint(keywords):
        body = change_parameters(body, _inline_references)
    return _change_schemas(body, drop)


def _drop_keywords(schema: JsonObject, keywords: Collection[str]) -> JsonObject:
    dropped = [name for name in schema if name in keywords]
    if not dropped:
        return schema
    kept = {name: value for name, value in schema.items() if name not in keywords}
    notes = []
    for name in dropped:
        value = schema[name]
        new_name, convert = _REPLACEMENTS.get(name, (name, None))
        if convert is not None and new_name not in kept and new_name not in keywords:
            kept[new_name] = convert(value)
        elif name not in _SILENT_KEYWORDS and value is not True:
            notes.append(f"{name}: {_to_text(value)}")
    return add_notes(kept, notes)


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value).decode()


def simplify_for_grammar(body: JsonObject) -> JsonObject:
    """Return the request without the keywords for which grammar compilers fail."""
    return _change_schemas(body, _simplify_schema)


def _simplify_schema(schema: JsonObject) -> JsonObject:
    if schema.get("properties") == {}:
        # llama.cpp of July 2026 builds an invalid grammar for it.
        schema = {name: value for name, value in schema.items() if name != "properties"}
    return _drop_keywords(schema, GRAMMAR_KEYWORDS)


def define_items(body: JsonObject) -> JsonObject:
    """Give a type to the items of arrays that have none. `items: {}` is not enough for Gemini."""
    return _change_schemas(body, _define_items)


def _define_items(schema: JsonObject) -> JsonObject:
    if not is_array(schema) or schema.get("items"):
        return schema
    return {**schema, "items": {"type": "string"}}


def define_properties(body: JsonObject) -> JsonObject:
    """Give empty `properties` to objects without properties.

    Grammar compilers may then only accept the empty object, so this is not done in advance.
    """
    return _change_schemas(body, _define_properties)


def _define_properties(schema: JsonObject) -> JsonObject:
    if schema.get("type") != "object" or "properties" in schema:
        return schema
    return {**schema, "properties": {}}


def prune_required_names(body: JsonObject) -> JsonObject:
    """Drop required names that the same schema does not define."""
    return _change_schemas(body, prune_required)


def move_types_into_branches(body: JsonObject) -> JsonObject:
    """Move a type beside alternatives into each of them."""
    return _change_schemas(body, _move_type)


def _move_type(schema: JsonObject) -> JsonObject:
    moved = dict(schema)
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if "type" in schema and isinstance(branches, list):
            moved.pop("type", None)
            moved[keyword] = [_add_type(branch, schema["type"]) for branch in branches]
    return moved


def _add_type(branch: Any, kind: Any) -> Any:
    if not isinstance(branch, dict) or "$ref" in branch:
        return branch
    return {"type": kind, **branch}


def use_single_types(body: JsonObject) -> JsonObject:
    """Replace lists of types: OpenAPI's `nullable` states null, and alternatives the others."""
    return _change_schemas(body, _use_single_type)


def _use_single_type(schema: JsonObject) -> JsonObject:
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    others = {name: value for name, value in schema.items() if name != "type"}
    named = [kind for kind in kinds if kind != "null"]
    if len(named) == 1:
        single: JsonObject = {"type": named[0], **others}
    elif "anyOf" in others or not named:
        single = others
    else:
        single = {"anyOf": [{"type": kind} for kind in named], **others}
    if len(named) < len(kinds) and named:
        single["nullable"] = True
    return single


def use_uniform_items(body: JsonObject) -> JsonObject:
    """Replace the schemas of single positions of an array by one for all its items."""
    return _change_schemas(body, _use_uniform_items)


def _use_uniform_items(schema: JsonObject) -> JsonObject:
    for keyword in ("items", "prefixItems"):
        positions = schema.get(keyword)
        if isinstance(positions, list):
            others = {name: value for name, value in schema.items() if name != keyword}
            others["items"] = {"anyOf": positions} if positions else {}
            return add_notes(others, [f"items in this order: {_to_text(positions)}"])
    return schema


def drop_reference_siblings(body: JsonObject) -> JsonObject:
    """Drop the keywords beside references. The description of the parent has their text."""
    return _change_schemas(body, _drop_siblings_of_children)


def _drop_siblings_of_children(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    rewritten = dict(schema)
    notes: list[str] = []
    if isinstance(properties, dict):
        rewritten["properties"] = {
            name: _isolate_reference(value, name, notes) for name, value in properties.items()
        }
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            rewritten[keyword] = _isolate_reference(schema[keyword], keyword, notes)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(keyword), list):
            rewritten[keyword] = [
                _isolate_reference(branch, keyword, notes) for branch in schema[keyword]
            ]
    return add_notes(rewritten, notes)


def _isolate_reference(schema: Any, name: str, notes: list[str]) -> Any:
    """Return a reference without siblings; a note has their text."""
    if not isinstance(schema, dict) or "$ref" not in schema or len(schema) == 1:
        return schema
    siblings = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    text = siblings["description"] if siblings.keys() == {"description"} else siblings
    notes.append(f"{name}: {_to_text(text)}")
    return {"$ref": schema["$ref"]}


def _inline_references(parameters: JsonObject) -> JsonObject:
    """Replace references to definitions by the definitions.

    A recursive reference, and one beyond the limits, becomes a schema for any value.
    """
    steps = _MIN_STEPS + len(dumps(parameters)) // _BYTES_PER_STEP
    inlined = _Inliner(parameters, steps).inline(parameters, (), 0)
    return {name: value for name, value in inlined.items() if name not in _REFERENCE_KEYWORDS}


class _Inliner:
    """Replaces references in a schema, in a limited number of steps."""

    def __init__(self, root: JsonObject, max_steps: int) -> None:
        self._root = root
        self._steps_left = max_steps

    def inline(self, value: Any, open_references: tuple[str, ...], depth: int) -> Any:
        """Return a part of the schema without references.

        open_references: the references that contain the part. depth: levels above it.
        """
        self._steps_left -= 1
        depth += 1
        if isinstance(value, list):
            return [self.inline(item, open_references, depth) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("$ref"), str):
            return self._resolve(value, open_references, depth)
        inlined = {}
        for name, each in value.items():
            if value is not self._root or name not in _REFERENCE_KEYWORDS:
                inlined[name] = self.inline(each, open_references, depth)
        return inlined

    def _resolve(
        self, schema: JsonObject, open_references: tuple[str, ...], depth: int
    ) -> JsonObject:
        reference = schema["$ref"]
        siblings = {name: value for name, value in schema.items() if name != "$ref"}
        target = find_target(self._root, reference)
        is_limited = depth > _MAX_REFERENCE_DEPTH or self._steps_left <= 0
        if target is None or reference in open_references or is_limited:
            return add_notes(siblings, [f"$ref: {reference}"])
        resolved: JsonObject = self.inline(target, (*open_references, reference), depth)
        return resolved | siblings


def find_target(root: JsonObject, reference: str) -> JsonObject | None:
    """Return the schema to which a reference of the form `#/NAME/NAME` points, or None."""
    start, *path = reference.split("/")
    if start != "#":
        return None
    target: Any = root
    for name in path:
        target = target.get(name) if isinstance(target, dict) else None
    return target if isinstance(target, dict) else None
