"""The tools that a request offers: their names, and the types in their schemas."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.translate.tool_names import NamePrefixes, find_offered_name
from anthropic_proxy.wire.json_codec import JsonObject, loads

# The schemas of the parameters of the offered tools, by the upstream's names.
ToolSchemas = Mapping[str, JsonObject]

# The JSON types of members of an object.
MemberTypes = Mapping[str, frozenset[str]]

_PYTHON_LITERALS = {"True": True, "False": False, "None": None}
_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class OfferedTools:
    """The offered tools, with caches for all calls of a response."""

    def __init__(self, tools: ToolSchemas) -> None:
        self._tools = tools
        # By the identity of the schema, which lives as long as the tools.
        self._types: dict[int, frozenset[str]] = {}
        self._members_without_strings: dict[str, MemberTypes] = {}

    def find(self, name: str) -> str | None:
        """Return the offered name in a name that was written as text, without leftovers."""
        return None if "<" in name else find_offered_name(name, self._tools)

    @cached_property
    def prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._tools)

    def get_schema(self, name: str) -> Any:
        """Return the schema of a tool's arguments."""
        return self._tools.get(name)

    def get_members_without_strings(self, name: str) -> MemberTypes:
        """Return the arguments of a tool that cannot be strings, with their types."""
        if name not in self._members_without_strings:
            self._members_without_strings[name] = dict(self._iter_members_without_strings(name))
        return self._members_without_strings[name]

    def _iter_members_without_strings(self, name: str) -> Iterator[tuple[str, frozenset[str]]]:
        properties = self._tools.get(find_offered_name(name, self._tools) or "", {}).get(
            "properties"
        )
        if isinstance(properties, dict):
            for key, schema in properties.items():
                types = self.get_types(schema)
                if types and not _accepts_string(schema):
                    yield key, types

    def get_types(self, schema: Any) -> frozenset[str]:
        """Return the JSON types that a schema names."""
        key = id(schema)
        if key not in self._types:
            self._types[key] = frozenset(_collect_types(schema))
        return self._types[key]


def get_member_schema(schema: Any, key: str) -> Any:
    """Return the schema of a member of an object, or None."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties.get(key) if isinstance(properties, dict) else None


def get_item_schema(schema: Any) -> Any:
    """Return the schema of the items of an array, or None."""
    return schema.get("items") if isinstance(schema, dict) else None


def _collect_types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type")
    if not isinstance(declared, list):
        declared = [declared]
    types = {each for each in declared if isinstance(each, str)}
    for keyword in ("anyOf", "oneOf"):
        alternatives = schema.get(keyword)
        if isinstance(alternatives, list):
            for alternative in alternatives:
                types |= _collect_types(alternative)
    return types


def _accepts_string(schema: Any) -> bool:
    """Return whether a schema may accept a string."""
    if not isinstance(schema, dict):
        return True
    declared = schema.get("type")
    if declared is not None:
        types = declared if isinstance(declared, list) else [declared]
        return not all(each in _TYPE_CHECKS for each in types)
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    return not isinstance(alternatives, list) or any(map(_accepts_string, alternatives))


def parse_strings(arguments: JsonObject, types: MemberTypes) -> JsonObject:
    """Return the arguments with strings parsed where the schema accepts only other types.

    Models encode such values twice (github.com/earendil-works/pi/pull/9569). A string that is not
    JSON of such a type stays unchanged.
    """
    return {
        key: _parse_string(value, types[key]) if isinstance(value, str) and key in types else value
        for key, value in arguments.items()
    }


def _parse_string(text: str, types: frozenset[str]) -> Any:
    scanner = JsonScanner()
    scanner.feed(text)
    if not scanner.is_valid or not scanner.is_complete:
        return text
    value = loads(text, allow_nan=False)
    return value if has_type(value, types) else text


def convert_text(text: str, types: frozenset[str]) -> Any:
    """Convert plain text to one of the types, or return it where it may be a string."""
    if not types or "string" in types:
        return text
    value = _parse_value(text)
    return value if has_type(value, types) else text


def has_type(value: Any, types: frozenset[str]) -> bool:
    return any(each in _TYPE_CHECKS and _TYPE_CHECKS[each](value) for each in types)


def _parse_value(text: str) -> Any:
    literal = text.strip()
    if literal in _PYTHON_LITERALS:
        return _PYTHON_LITERALS[literal]
    try:
        return loads(text, allow_nan=False)
    except ValueError:
        return repair_json(text)
