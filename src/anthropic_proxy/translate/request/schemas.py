"""Convert JSON schemas to schemas that OpenAI's API accepts, and check them for strict mode.

Parts that the API or grammar compilers of servers refuse move into a description, so the model can
still read them. Sources: OpenAI's guides to function calling and structured outputs ("Supported
schemas"); recorded tools of Claude Code.
"""

import re
from typing import Any

from anthropic_proxy.translate.request.schema_tree import add_notes, rewrite_schemas
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

# OpenAI refuses these at the top level of a function's parameters, which must be an object.
_TOP_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not", "enum", "if", "then", "else")

# With these at the top level, the parameters must be rewritten.
_REWRITTEN_AT_TOP = frozenset((*_TOP_ALTERNATIVES, "$ref"))

# Formats that OpenAI documents. Because of others, such as uri, some servers refuse the request.
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

# Keywords with alternatives of an object.
_CHOICE_KEYWORDS = ("anyOf", "oneOf")
_BRANCH_KEYWORDS = ("allOf", *_CHOICE_KEYWORDS)

# With these beside them, properties may be defined elsewhere.
_PROPERTY_SOURCES = frozenset((*_BRANCH_KEYWORDS, "$ref", "patternProperties", "dependentSchemas"))

# A reference into an alternative at the top level.
_REFERENCE = re.compile(r"#/(?:(?:oneOf|anyOf|allOf)/\d+|not|if|then|else)(?=/|$)")
_REFERENCE_IN_TEXT = re.compile(rb'"\$ref":"#/(?:oneOf|anyOf|allOf|not|if|then|else)')

# A property has at least 7 bytes, or 20 with its type, and needs one or two steps unless
# alternatives are deeply nested.
_MIN_STEPS = 100
_BYTES_PER_STEP = 8


def to_function_parameters(schema: JsonObject) -> tuple[JsonObject, str]:
    """Return the parameters of a function, and a text for the tool's description or "".

    OpenAI refuses parameters without `properties`, and alternatives at the top level. The
    properties of the alternatives are merged into the object, which requires the properties that
    all alternatives require. If this takes too many steps, the alternatives are omitted. A
    reference at the top level, alone or as an alternative, is resolved; references into the
    alternatives become references to definitions. The text contains the alternatives.
    """
    if _REWRITTEN_AT_TOP.isdisjoint(schema):
        parameters = _build_object(schema, _get_properties(schema), _get_required(schema))
        return _sanitize(parameters), ""
    text = dumps(schema)
    schema_with_definitions = _define_alternatives(schema, text)
    schema = _resolve_reference(schema_with_definitions, schema_with_definitions)
    max_steps = _MIN_STEPS + len(text) // _BYTES_PER_STEP
    try:
        properties, required = _merge_alternatives(schema, schema_with_definitions, max_steps)
    except _TooManyStepsError:
        properties, required = _get_properties(schema), _get_required(schema)
    base = {name: value for name, value in schema.items() if name not in _TOP_ALTERNATIVES}
    parameters = _sanitize(_build_object(base, properties, required))
    alternatives = {name: schema[name] for name in _TOP_ALTERNATIVES if name in schema}
    if not alternatives:
        return parameters, ""
    json_text = dumps(alternatives).decode()
    return parameters, f"The arguments must also match this JSON schema: {json_text}"


def is_strict_compatible(schema: Any) -> bool:
    """Return whether strict mode accepts the schema.

    Strict mode requires an object at the top level, no additional properties, and that all
    properties are required.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object" or "anyOf" in schema:
        return False
    return _is_strict(schema)


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    if not _STRICT_KEYWORDS.issuperset(schema) or _TYPE_KEYWORDS.isdisjoint(schema):
        return False
    properties, alternatives = schema.get("properties", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(alternatives, list):
        return False
    if schema.get("type") == "object" or properties:
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or set(_get_required(schema)) != set(properties):
            return False
    nested = [*properties.values(), *alternatives]
    if "items" in schema:
        nested.append(schema["items"])
    elif schema.get("type") == "array":
        return False
    return all(map(_is_strict, nested))


def _build_object(schema: JsonObject, properties: JsonObject, required: list[str]) -> JsonObject:
    parameters: JsonObject = {**schema, "type": "object", "properties": properties}
    parameters.pop("$schema", None)
    if required or not isinstance(parameters.get("required", []), list):
        parameters["required"] = list(dict.fromkeys(required))
    return parameters


def _get_properties(schema: JsonObject) -> JsonObject:
    """Return the direct properties of a schema, without those of its alternatives."""
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _get_required(schema: JsonObject) -> list[str]:
    required = schema.get("required")
    if not isinstance(required, list):
        return []
    return [name for name in required if isinstance(name, str)]


def _get_branches(schema: JsonObject, keyword: str) -> list[JsonObject]:
    """Return the alternatives of a keyword, without the schemas `true` and `false`."""
    branches = schema.get(keyword)
    if not isinstance(branches, list):
        return []
    return [branch for branch in branches if isinstance(branch, dict)]


def _define_alternatives(schema: JsonObject, text: bytes) -> JsonObject:
    """Copy alternatives to the definitions if references point into them.

    The alternatives are removed later. `text` is the schema as JSON.
    """
    if not _REFERENCE_IN_TEXT.search(text):
        return schema
    definition_names: dict[str, str] = {}
    for path in _alternatives_by_path(schema):
        definition_names[path] = path[2:].replace("/", "_") + "_"
    rewritten: JsonObject = _rewrite_references(schema, definition_names)
    if rewritten == schema:
        return schema
    definitions: JsonObject = {}
    for path, alternative in _alternatives_by_path(rewritten).items():
        definitions[definition_names[path]] = alternative
    if isinstance(rewritten.get("$defs"), dict):
        definitions |= rewritten["$defs"]
    return {**rewritten, "$defs": definitions}


def _alternatives_by_path(schema: JsonObject) -> JsonObject:
    """Return the alternatives at the top level of a schema by their reference paths."""
    alternatives: JsonObject = {}
    for name in _TOP_ALTERNATIVES:
        value = schema.get(name)
        if isinstance(value, dict):
            alternatives[f"#/{name}"] = value
        elif isinstance(value, list):
            for index, alternative in enumerate(value):
                alternatives[f"#/{name}/{index}"] = alternative
    return alternatives


def _rewrite_references(value: Any, definition_names: dict[str, str]) -> Any:
    """Replace references to alternatives by references to definitions.

    `definition_names` maps the paths of alternatives to definitions.
    """
    if isinstance(value, list):
        return [_rewrite_references(item, definition_names) for item in value]
    if not isinstance(value, dict):
        return value
    rewritten = {name: _rewrite_references(each, definition_names) for name, each in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str):
        match = _REFERENCE.match(reference)
        if match and match[0] in definition_names:
            rest = reference[match.end() :]
            rewritten["$ref"] = f"#/$defs/{definition_names[match[0]]}{rest}"
    return rewritten


def _resolve_reference(schema: JsonObject, root: JsonObject) -> JsonObject:
    """Return the definition that a schema refers to, with the schema's other keywords.

    A schema without a known reference is returned unchanged.
    """
    definition = _find_definition(schema, root)
    if definition is None:
        return schema
    return definition | {name: value for name, value in schema.items() if name != "$ref"}


def _find_definition(schema: JsonObject, root: JsonObject) -> JsonObject | None:
    """Return the target of a reference of the form `#/$defs/NAME`."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return None
    path = reference.split("/", 3)
    if len(path) != 3 or path[0] != "#":
        return None
    group = root.get(path[1])
    definition = group.get(path[2]) if isinstance(group, dict) else None
    return definition if isinstance(definition, dict) else None


# The schemas of each property name in all alternatives, with repetitions.
_Properties = dict[str, list[Any]]


class _TooManyStepsError(Exception):
    """The merge of the alternatives takes too many steps."""


def _merge_alternatives(
    schema: JsonObject, root: JsonObject, max_steps: int
) -> tuple[JsonObject, list[str]]:
    """Return the properties of an object schema and its alternatives, and the required names.

    A name is required if every alternative requires it. A property that differs between
    alternatives (such as the `kind` that distinguishes them) accepts the schemas of all of them.
    Alternatives that are references are resolved in `root`. Raises _TooManyStepsError.
    """
    merger = _Merger(max_steps)
    flat = dict(schema)
    for keyword in _BRANCH_KEYWORDS:
        branches = _get_branches(schema, keyword)
        flat[keyword] = [merger.resolve_reference(branch, root) for branch in branches]
    schemas_by_name = merger.merge_properties(flat)
    properties = {name: _join_schemas(schemas) for name, schemas in schemas_by_name.items()}
    return properties, list(merger.merge_required(flat))


def _join_schemas(schemas: list[Any]) -> Any:
    """Return a schema that accepts the values of all the schemas."""
    if len(schemas) == 1:
        return schemas[0]
    # The same definition may occur many times. Hashes need less memory than texts.
    distinct = {id(schema): schema for schema in schemas}.values()
    different = list({hash(dumps(schema)): schema for schema in distinct}.values())
    return {"anyOf": different} if len(different) > 1 else different[0]


class _Merger:
    """Merges the properties of alternatives (`anyOf`, `oneOf`, `allOf`) into their object.

    Alternatives may be nested, and any number of them may refer to one definition, so a merge can
    take far more steps than the schema has parts. After `max_steps`, the methods raise
    _TooManyStepsError. Results are merged in place into the first collection, which is not shared,
    so deep nesting is not expensive.
    """

    def __init__(self, max_steps: int) -> None:
        self._steps_left = max_steps

    def resolve_reference(self, schema: JsonObject, root: JsonObject) -> JsonObject:
        self._spend(len(_find_definition(schema, root) or ()))
        return _resolve_reference(schema, root)

    def merge_properties(self, schema: JsonObject) -> _Properties:
        """Return the properties of the object and its branches.

        The object's properties replace those of its branches.
        """
        self._spend(1)
        properties: _Properties = {}
        for branch in _get_branches(schema, "allOf"):
            properties = self._override(properties, self.merge_properties(branch))
        for keyword in _CHOICE_KEYWORDS:
            united: _Properties = {}
            for branch in _get_branches(schema, keyword):
                united = self._unite(united, self.merge_properties(branch))
            properties = self._override(properties, united)
        direct = _get_properties(schema)
        self._spend(len(direct))
        return self._override(properties, {name: [each] for name, each in direct.items()})

    def merge_required(self, schema: JsonObject) -> dict[str, None]:
        """Return the names that the object requires, as the keys of a dict.

        These are its own, those of `allOf`, and those that all alternatives of `anyOf` or `oneOf`
        require.
        """
        direct = _get_required(schema)
        self._spend(1 + len(direct))
        required = dict.fromkeys(direct)
        for branch in _get_branches(schema, "allOf"):
            required = self._extend(required, self.merge_required(branch))
        for keyword in _CHOICE_KEYWORDS:
            shared: dict[str, None] | None = None
            for branch in _get_branches(schema, keyword):
                shared = self._intersect(shared, self.merge_required(branch))
            required = self._extend(required, shared or {})
        return required

    def _override(self, properties: _Properties, others: _Properties) -> _Properties:
        if not properties:
            return others
        self._spend(len(others))
        properties.update(others)
        return properties

    def _unite(self, properties: _Properties, others: _Properties) -> _Properties:
        # Copy the smaller collection: a large collection may be nested in many alternatives.
        if len(properties) < len(others):
            self._spend(len(properties))
            for name, schemas in properties.items():
                other_schemas = others.get(name, [])
                self._spend(len(other_schemas))
                others[name] = [*schemas, *other_schemas]
            return others
        self._spend(len(others))
        for name, schemas in others.items():
            self._spend(len(schemas) - 1)
            properties.setdefault(name, []).extend(schemas)
        return properties

    def _extend(self, names: dict[str, None], others: dict[str, None]) -> dict[str, None]:
        if not names:
            return others
        self._spend(len(others))
        names.update(others)
        return names

    def _intersect(self, names: dict[str, None] | None, others: dict[str, None]) -> dict[str, None]:
        if names is None:
            return others
        self._spend(len(names))
        return {name: None for name in names if name in others}

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _TooManyStepsError


def _sanitize(parameters: JsonObject) -> JsonObject:
    """Rewrite what servers refuse into an equivalent, or move it into a description.

    These changes need no refusal, because no server refuses their result.
    """
    sanitized: JsonObject = rewrite_schemas(parameters, _sanitize_schema)
    return sanitized


def _sanitize_schema(schema: JsonObject) -> JsonObject:
    schema = _replace_true(schema)
    if "format" in schema or "pattern" in schema:
        schema = _describe_unsupported(schema)
    # OpenAI: "array schema missing items".
    if "items" not in schema and is_array(schema):
        schema = {**schema, "items": {}}
    if "required" in schema:
        schema = _define_required(schema)
    return schema


def is_array(schema: JsonObject) -> bool:
    """Return whether the type of a schema is an array, or may be one."""
    kind = schema.get("type")
    return kind == "array" or (isinstance(kind, list) and "array" in kind)


def _describe_unsupported(schema: JsonObject) -> JsonObject:
    """Move a format or pattern that servers refuse into the description."""
    names = [name for name in ("format", "pattern") if _is_unsupported(name, schema.get(name))]
    if not names:
        return schema
    notes = [f"{name}: {schema[name]}" for name in names]
    kept = {name: value for name, value in schema.items() if name not in names}
    return add_notes(kept, notes)


def _is_unsupported(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if name == "format":
        return value not in _FORMATS
    # Few grammar compilers and regular expression engines support Unicode character classes.
    return "\\p{" in value or "\\P{" in value


def _replace_true(schema: JsonObject) -> JsonObject:
    """Replace the schema `true` of properties and items by `{}`, which also accepts any value."""
    if schema.get("items") is True:
        schema = {**schema, "items": {}}
    properties = schema.get("properties")
    if not isinstance(properties, dict) or True not in properties.values():
        return schema
    rewritten = {name: {} if value is True else value for name, value in properties.items()}
    return {**schema, "properties": rewritten}


def _define_required(schema: JsonObject) -> JsonObject:
    """Drop required names without a property, and a `required` that is no list (JSON Schema 3).

    Schemas whose properties may be defined elsewhere, as in alternatives, stay unchanged.
    """
    required = schema["required"]
    if not isinstance(required, list):
        return {name: value for name, value in schema.items() if name != "required"}
    if "properties" not in schema or not _PROPERTY_SOURCES.isdisjoint(schema):
        return schema
    return prune_required(schema)


def prune_required(schema: JsonObject) -> JsonObject:
    """Drop required names that the schema's own properties do not define."""
    required = schema.get("required")
    if not isinstance(required, list):
        return schema
    properties = _get_properties(schema)
    defined = [name for name in required if isinstance(name, str) and name in properties]
    if defined == required:
        return schema
    pruned = {name: value for name, value in schema.items() if name != "required"}
    if defined:
        pruned["required"] = defined
    return pruned
