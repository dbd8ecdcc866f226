"""The properties that the alternatives of a JSON schema (`anyOf`, `oneOf`, `allOf`) give to the object that they describe.

References to one definition may stand in any number of alternatives, and alternatives within each other, so that putting
them together can take far more steps than the schema has parts. Merging therefore stops when it takes too many.
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject, dumps

_EITHER = ("anyOf", "oneOf")
_BRANCHES = ("allOf", *_EITHER)

# For each name the schemas that alternatives give it, with repetitions.
_Properties = dict[str, list[Any]]


class TooManyStepsError(Exception):
    """Putting the alternatives together would cost more than they are worth."""


def merged(
    schema: JsonObject, definitions: JsonObject, most_steps: int
) -> tuple[JsonObject, list[str]]:
    """Return the properties of an object schema and of its alternatives, and which of them every alternative requires.

    A property that differs between alternatives (the `kind` that distinguishes them) may have the schema of any of them.
    A reference that is an alternative at the top is followed into `definitions`. Raises TooManyStepsError.
    """
    merge = _Merge(most_steps)
    branches = {
        name: [merge.followed(each, definitions) for each in schemas_in(schema.get(name))]
        for name in _BRANCHES
    }
    flat = schema | branches
    properties = merge.properties(flat)
    return {name: _either(each) for name, each in properties.items()}, list(merge.required(flat))


def followed(schema: JsonObject, definitions: JsonObject) -> JsonObject:
    """Return the definition that a schema refers to, with the schema's other keywords; any other schema as it is."""
    meant = _definition(schema, definitions)
    if meant is None:
        return schema
    return meant | {name: value for name, value in schema.items() if name != "$ref"}


def own_properties(schema: JsonObject) -> JsonObject:
    """Return the properties of a schema without those of its alternatives."""
    own = schema.get("properties")
    return own if isinstance(own, dict) else {}


def strings_in(value: Any) -> list[str]:
    """Return the strings of a list; none of anything else."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def schemas_in(value: Any) -> list[JsonObject]:
    """Return the object schemas of a list; none of anything else."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _definition(schema: JsonObject, definitions: JsonObject) -> JsonObject | None:
    reference = schema.get("$ref")
    path = reference.split("/", 3) if isinstance(reference, str) else []
    named = definitions.get(path[1]) if len(path) == 3 and path[0] == "#" else None
    meant = named.get(path[2]) if isinstance(named, dict) else None
    return meant if isinstance(meant, dict) else None


def _either(schemas: list[Any]) -> Any:
    """Return a schema that takes what any of some schemas takes."""
    if len(schemas) == 1:
        return schemas[0]
    # The same definition may come many times. Hashes of the others, not their texts, are all that is kept of them.
    distinct = {id(schema): schema for schema in schemas}.values()
    different = list({hash(dumps(schema)): schema for schema in distinct}.values())
    return {"anyOf": different} if len(different) > 1 else different[0]


class _Merge:
    """Merges parts into the collections of the first one, which nothing else refers to, so that depth costs nothing."""

    def __init__(self, most_steps: int) -> None:
        self._left = most_steps

    def followed(self, schema: JsonObject, definitions: JsonObject) -> JsonObject:
        self._spend(len(_definition(schema, definitions) or ()))
        return followed(schema, definitions)

    def properties(self, schema: JsonObject) -> _Properties:
        """Return the properties of the object and of its branches; its own replace theirs."""
        self._spend(1)
        properties: _Properties = {}
        for part in schemas_in(schema.get("allOf")):
            properties = self._replaced(properties, self.properties(part))
        for name in _EITHER:
            united: _Properties = {}
            for part in schemas_in(schema.get(name)):
                united = self._united(united, self.properties(part))
            properties = self._replaced(properties, united)
        own = own_properties(schema)
        self._spend(len(own))
        return self._replaced(properties, {name: [each] for name, each in own.items()})

    def required(self, schema: JsonObject) -> dict[str, None]:
        """Return own requirements, those of every `allOf`, and those that all of `anyOf` or `oneOf` share, in order."""
        own = strings_in(schema.get("required"))
        self._spend(1 + len(own))
        required = dict.fromkeys(own)
        for part in schemas_in(schema.get("allOf")):
            required = self._extended(required, self.required(part))
        for name in _EITHER:
            shared: dict[str, None] | None = None
            for part in schemas_in(schema.get(name)):
                shared = self._shared(shared, self.required(part))
            required = self._extended(required, shared or {})
        return required

    def _replaced(self, properties: _Properties, others: _Properties) -> _Properties:
        if not properties:
            return others
        self._spend(len(others))
        properties.update(others)
        return properties

    def _united(self, properties: _Properties, others: _Properties) -> _Properties:
        # The smaller one goes into the larger one, as a large one may be within many alternatives.
        if len(properties) < len(others):
            self._spend(len(properties))
            for name, schemas in properties.items():
                known = others.get(name, [])
                self._spend(len(known))
                others[name] = [*schemas, *known]
            return others
        self._spend(len(others))
        for name, schemas in others.items():
            self._spend(len(schemas) - 1)
            properties.setdefault(name, []).extend(schemas)
        return properties

    def _extended(self, names: dict[str, None], others: dict[str, None]) -> dict[str, None]:
        if not names:
            return others
        self._spend(len(others))
        names.update(others)
        return names

    def _shared(self, names: dict[str, None] | None, others: dict[str, None]) -> dict[str, None]:
        if names is None:
            return others
        self._spend(len(names))
        return {name: None for name in names if name in others}

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooManyStepsError
