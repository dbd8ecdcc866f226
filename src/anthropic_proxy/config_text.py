"""The text of a configuration file -> plain values, and the place of each of them in the text. The only door to YAML.

YAML is read by its 1.2 core schema, whatever its library's default: `no` and `on` are texts, and so is a date. Keys are
always texts; a repeated one is refused, as in TOML. Of tags only those of JSON's types are taken.

TOML's parser tells no places. But a statement of TOML (a header, or a key with its value) is complete exactly when it can
be parsed alone, so its own parser finds where each one begins; that line is the place of all values in it.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from math import inf, nan
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from anthropic_proxy.config import ConfigError
from anthropic_proxy.redaction import MASK, is_key_like

# Keys and indices, from the root.
Path = tuple[str | int, ...]


class Place(NamedTuple):
    """line and column, from 1; column 0 when it is not known."""

    line: int
    column: int = 0


class Source(NamedTuple):
    """value: dicts, lists, texts, numbers, booleans, None. places: of every value in it; a member's is that of its key."""

    value: Any
    places: Mapping[Path, Place]


def parse_text(text: str, name: str) -> Source:
    """The values of a configuration file and their places. name: the file's, whose ending tells YAML from TOML.

    Raises ConfigError, with file, line and column, when it is neither.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in _READERS:
        raise ConfigError(f"{name}: the file's name must end in {', '.join(_READERS)}")
    return _READERS[ending](text.removeprefix("\ufeff"), name)


class _Loader(yaml.SafeLoader):
    """Composes nodes; what a plain scalar means is said below."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - so the library has it


# YAML 1.2.2, section 10.3.2.
_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_TAG = "tag:yaml.org,2002:"
for _type, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(
        _TAG + _type, re.compile(rf"(?:{_pattern})\Z"), [*_first, *([""] if _type == "null" else [])]
    )


def _float(text: str) -> float:
    special = {".inf": inf, "+.inf": inf, "-.inf": -inf, ".nan": nan}
    return special[text.lower()] if text.lower() in special else float(text)


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    _TAG + "int": lambda text: int(text, 0) if text.startswith(("0o", "0x")) else int(text),
    _TAG + "float": _float,
    _TAG + "str": str,
}


def _yaml(text: str, name: str) -> Source:
    places: dict[Path, Place] = {}
    try:
        node = yaml.compose(text, _Loader)
        value = None if node is None else _built(node, (), (), places)
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        reason = _ALIAS.sub(r"\1", ", ".join(filter(None, (error.context, error.problem))))
        raise ConfigError(f"{located(name, place)}: {reason}") from None
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ConfigError(f"{name}: {reason}") from None
    return Source(value, {(): Place(1, 1)} | places)


# A key that begins with `!` looks like a tag, so no other tag than YAML's own is shown.
_NO_TAGS = "the tag is not taken; put a text that begins with ! into quotes"
# A key that begins with `*` or `&` looks like an alias or an anchor to YAML, whose errors repeat it.
_ALIAS = re.compile(r"(undefined alias|duplicate anchor) '.*?'")


def _built(node: yaml.Node, path: Path, parents: tuple[yaml.Node, ...], places: dict[Path, Place]) -> Any:
    """The value of a node. Its members' places are added to `places`, and its own when nobody has named a better one."""
    places.setdefault(path, _place(node.start_mark))
    if node in parents:
        raise _refusal(node, "an alias stands within its own anchor")
    inside = (*parents, node)
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return {key: _built(value, (*path, key), inside, places) for key, value in _members(node, path, places)}
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_built(item, (*path, index), inside, places) for index, item in enumerate(node.value)]
    return _scalar(node)


def _members(node: yaml.MappingNode, path: Path, places: dict[Path, Place]) -> Iterator[tuple[str, yaml.Node]]:
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refusal(key, "a key must be a text")
        if key.value in lines:
            shown = MASK if is_key_like(key.value) else repr(key.value)
            raise _refusal(key, f"the key {shown} stands in line {lines[key.value]} already")
        lines[key.value] = key.start_mark.line + 1
        places[*path, key.value] = _place(key.start_mark)
        yield key.value, value


def _scalar(node: yaml.Node) -> Any:
    if node.tag not in _SCALARS:
        is_own = node.tag.startswith(_TAG)
        raise _refusal(node, f"the tag {node.tag.replace(_TAG, '!!')} is not taken" if is_own else _NO_TAGS)
    try:
        return _SCALARS[node.tag](node.value)
    except (KeyError, ValueError):
        raise _refusal(node, f"the value is no {node.tag.removeprefix(_TAG)}") from None


def _refusal(node: yaml.Node, reason: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=node.start_mark)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def _toml(text: str, name: str) -> Source:
    try:
        value = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with too many digits
        found = _TOML_PLACE.search(str(error))
        place = Place(int(found[1]), int(found[2])) if found and found[1] else Place(len(text.splitlines()) or 1)
        reason = str(error)[: found.start()] if found else str(error)
        raise ConfigError(f"{located(name, place)}: {reason}") from None
    return Source(value, _toml_places(text))


def _toml_places(text: str) -> dict[Path, Place]:
    places: dict[Path, Place] = {(): Place(1)}
    tables: dict[Path, int] = {}
    base: Path = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        header = statement.lstrip().startswith("[")
        if header:
            base = _table(parsed, tables, repeated=statement.lstrip().startswith("[["))
        for path in _prefixes(base) if header else _paths(parsed, base):
            places.setdefault(path, Place(line))
    return places


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the line on which it begins."""
    begun, statement = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun if statement else number
        statement += line + "\n"
        if _is_whole(statement):
            yield begun, statement
            statement = ""


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _table(parsed: dict[str, Any], tables: dict[Path, int], *, repeated: bool) -> Path:
    """The path of the table that a header opens. tables: how many elements each array of tables has; it is kept up."""
    path: Path = ()
    value: Any = parsed
    while value and isinstance(value, dict):
        ((key, value),) = value.items()
        path = (*path, key)
        last = not (value and isinstance(value, dict))
        if last and repeated:
            tables[path] = tables.get(path, 0) + 1
        if path in tables:
            path = (*path, tables[path] - 1)
    return path


def _prefixes(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(1, len(path) + 1))


def _paths(value: Any, base: Path) -> Iterator[Path]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*base, key)
        yield from _paths(member, (*base, key))


def located(name: str, place: Place) -> str:
    """The place in a file, as compilers name it: `file:line:column`."""
    return f"{name}:{place.line}:{place.column}" if place.column else f"{name}:{place.line}"


_READERS: Mapping[str, Callable[[str, str], Source]] = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml}
