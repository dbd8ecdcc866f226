"""Merge the properties that alternatives of a JSON schema (`anyOf`, `oneOf`, `allOf`) give to their
object.

Any number of alternatives may refer to one definition, and alternatives may nest, so merging can
take far more steps than the schema has parts. It stops after too many steps.
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject, dumps

_CHOICE_KEYWORDS = ("anyOf", "oneOf")
_BRANCH_KEYWORDS = ("allOf", *_CHOICE_KEYWORDS)

# For each name the schemas that alternatives give it, with repetitions.
_Properties = dict[str, list[Any]]


class TooManyStepsError(Exception):
    """Merging the alternatives would take too many steps."""


def merge_alternatives(
    schema: JsonObject, definitions: JsonObject, max_steps: int
) -> tuple[JsonObject, list[str]]:
    """Return the properties of an object schema and its alternatives, and those that every
    alternative requires.

    A property that differs between alternatives (the `kind` that distinguishes them) may have the
    schema of any of them. A reference that is an alternative at the top is resolved in
    `definitions`. Raises TooManyStepsError.
    """
    merger = _Merger(max_steps)
    branches = {
        name: [
            merger.resolve_reference(each, definitions) for each in filter_schemas(schema.get(name))
        ]
        for name in _BRANCH_KEYWORDS
    }
    flat = schema | branches
    properties = merger.merge_properties(flat)
    return {name: _join_schemas(each) for name, each in properties.items()}, list(
        merger.merge_required(flat)
    )


def resolve_reference(schema: JsonObject, definitions: JsonObject) -> JsonObject:
    """Return the definition that a schema refers to, with the schema's other keywords; any other
    schema unchanged.
    """
    definition = _find_definition(schema, definitions)
    if definition is None:
        return schema
    return definition | {name: value for name, value in schema.items() if name != "$ref"}


def get_properties(schema: JsonObject) -> JsonObject:
    """Return the properties of a schema without those of its alternatives."""
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def filter_strings(value: Any) -> list[str]:
    """Return the strings of a list; none of anything else."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def filter_schemas(value: Any) -> list[JsonObject]:
    """Return the object schemas of a list; none of anything else."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _find_definition(schema: JsonObject, definitions: JsonObject) -> JsonObject | None:
    reference = schema.get("$ref")
    path = reference.split("/", 3) if isinstance(reference, str) else []
    group = definitions.get(path[1]) if len(path) == 3 and path[0] == "#" else None
    definition = group.get(path[2]) if isinstance(group, dict) else None
    return definition if isinstance(definition, dict) else None


def _join_schemas(schemas: list[Any]) -> Any:
    """Return a schema that accepts what any of the schemas accepts."""
    if len(schemas) == 1:
        return schemas[0]
    # The same definition may come many times. Hashes of the others, not their texts, are all that is kept of them.
    distinct = {id(schema): schema for schema in schemas}.values()
    different = list({hash(dumps(schema)): schema for schema in distinct}.values())
    return {"anyOf": different} if len(different) > 1 else different[0]


class _Merger:
    """Merges parts into the collections of the first one, which nothing else refers to, so that
    depth costs nothing.
    """

    def __init__(self, max_steps: int) -> None:
        self._steps_left = max_steps

    def resolve_reference(self, schema: JsonObject, definitions: JsonObject) -> JsonObject:
        self._spend(len(_find_definition(schema, definitions) or ()))
        return resolve_reference(schema, definitions)

    def merge_properties(self, schema: JsonObject) -> _Properties:
        """Return the properties of the object and its branches; the object's properties replace
        theirs.
        """
        self._spend(1)
        properties: _Properties = {}
        for part in filter_schemas(schema.get("allOf")):
            properties = self._override(properties, self.merge_properties(part))
        for name in _CHOICE_KEYWORDS:
            united: _Properties = {}
            for part in filter_schemas(schema.get(name)):
                united = self._unite(united, self.merge_properties(part))
            properties = self._override(properties, united)
        direct = get_properties(schema)
        self._spend(len(direct))
        return self._override(properties, {name: [each] for name, each in direct.items()})

    def merge_required(self, schema: JsonObject) -> dict[str, None]:
        """Return the object's requirements, those of `allOf`, and those that all of `anyOf` or
        `oneOf` share.
        """
        direct = filter_strings(schema.get("required"))
        self._spend(1 + len(direct))
        required = dict.fromkeys(direct)
        for part in filter_schemas(schema.get("allOf")):
            required = self._extend(required, self.merge_required(part))
        for name in _CHOICE_KEYWORDS:
            shared: dict[str, None] | None = None
            for part in filter_schemas(schema.get(name)):
                shared = self._intersect(shared, self.merge_required(part))
            required = self._extend(required, shared or {})
        return required

    def _override(self, properties: _Properties, others: _Properties) -> _Properties:
        if not properties:
            return others
        self._spend(len(others))
        properties.update(others)
        return properties

    def _unite(self, properties: _Properties, others: _Properties) -> _Properties:
        # The smaller one goes into the larger one, as a large one may be within many alternatives.
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
            raise TooManyStepsError
