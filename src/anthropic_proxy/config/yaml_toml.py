"""Parse the text of a configuration file to plain values, each with its position.

YAML follows the core schema of version 1.2, unlike PyYAML: `no`, `on` and dates are strings. Keys
are strings; a duplicate key is an error, as in TOML. Only the tags of the JSON types are accepted.

tomllib reports no positions. But each statement of TOML (a header, or a key with its value) can be
parsed separately. The position of its values is the line on which it begins.

Length, depth and number of values are bounded, because a running server reloads the file: aliases
in YAML and dotted keys in TOML can make a small file very expensive.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf, nan
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from anthropic_proxy.errors import ConfigError
from anthropic_proxy.errors.redaction import quote_name

# Limits for a file.
MAX_CHARACTERS = 256 * 1024
# Each use of an alias counts again.
MAX_VALUES = 100_000
# Levels of nesting.
MAX_DEPTH = 50

# Keys and indices, from the root.
Path = tuple[str | int, ...]


class Position(NamedTuple):
    # From 1.
    line: int
    # From 1; 0 if unknown.
    column: int = 0


class SourceText(NamedTuple):
    # Dicts, lists, strings, numbers, booleans and None.
    value: Any
    # The position of a member is that of its key.
    positions: Mapping[Path, Position]


def parse_text(text: str, name: str) -> SourceText:
    """Return the values of a configuration file and their positions.

    name: of the file; its suffix selects YAML or TOML. Raises ConfigError with file, line and
    column for invalid text.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in _READERS:
        raise ConfigError(f"{name}: the file's name must end in {', '.join(_READERS)}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{name}: the file is too long: {len(text)} characters, "
            f"expected at most {MAX_CHARACTERS}"
        )
    return _READERS[ending](text.removeprefix("\ufeff"), name)


class _Loader(yaml.SafeLoader):
    """Compose nodes with bounds. _PLAIN below defines the types of plain scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the library
    _depth = 0
    _values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node within the limits of depth and number of values."""
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        self._values += not is_key
        if self._depth > MAX_DEPTH:
            raise self._error(_TOO_DEEP)
        if self._values > MAX_VALUES:
            raise self._error(_TOO_MANY)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _error(self, problem: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # partly typed library
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_TOO_DEEP = f"values are nested too deeply, expected at most {MAX_DEPTH} levels"
_TOO_MANY = f"too many values, expected at most {MAX_VALUES}, each use of an alias counted"


# YAML 1.2.2, section 10.3.2.
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# Type, pattern, and the possible first characters; "" is the empty value.
_PLAIN: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    ("float", _FLOAT, [*"-+.0123456789"]),
)
_TAG = "tag:yaml.org,2002:"
for _type, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _type, re.compile(rf"(?:{_pattern})\Z"), _first)


_BOOLEANS = {"true": True, "false": False}
_SPECIAL_FLOATS = {".inf": inf, "+.inf": inf, "-.inf": -inf, ".nan": nan}


def _parse_int(text: str) -> int:
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)


def _parse_float(text: str) -> float:
    special = _SPECIAL_FLOATS.get(text.lower())
    return float(text) if special is None else special


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: _BOOLEANS[text.lower()],
    _TAG + "int": _parse_int,
    _TAG + "float": _parse_float,
    _TAG + "str": str,
}


def _parse_yaml(text: str, name: str) -> SourceText:
    positions: dict[Path, Position] = {}
    try:
        node = yaml.compose(text, _Loader)
        value = None if node is None else _Builder(positions).build(node, (), ())
    except yaml.MarkedYAMLError as error:
        position = _position(error.problem_mark or error.context_mark)
        reason = _ALIAS.sub(r"\1", ", ".join(filter(None, (error.context, error.problem))))
        raise ConfigError(f"{format_position(name, position)}: {reason}") from None
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ConfigError(f"{name}: {reason}") from None
    return SourceText(value, {(): Position(1, 1)} | positions)


# In YAML, a secret that begins with `!` is a tag, so errors show only the standard tags.
_NO_TAGS = "unsupported tag; put a string that begins with ! in quotes"
# In YAML, a secret that begins with `*` or `&` is an alias or an anchor, and errors show its name.
_ALIAS = re.compile(r"(undefined alias|duplicate anchor) '.*?'")


class _Builder:
    """Build the values of nodes, and record their positions."""

    def __init__(self, positions: dict[Path, Position]) -> None:
        self._positions = positions
        self._values = 0

    def build(self, node: yaml.Node, path: Path, parents: tuple[yaml.Node, ...]) -> Any:
        """Return the value of a node. Raises MarkedYAMLError.

        path: of the node. parents: the nodes that contain it.
        """
        self._positions.setdefault(path, _position(node.start_mark))
        self._values += 1
        if self._values > MAX_VALUES:
            raise _refusal(node, _TOO_MANY)
        if node in parents:
            raise _refusal(node, "an alias refers to an anchor that contains it")
        if len(parents) > MAX_DEPTH:
            raise _refusal(node, _TOO_DEEP)
        parents = (*parents, node)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            mapping = {}
            for key, value in self._members(node, path):
                mapping[key] = self.build(value, (*path, key), parents)
            return mapping
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = []
            for index, item in enumerate(node.value):
                items.append(self.build(item, (*path, index), parents))
            return items
        return _parse_scalar(node)

    def _members(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the keys and values of a mapping, and record the positions of the keys."""
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal(key, "a key must be a string")
            if key.value in lines:
                raise _refusal(
                    key,
                    f"duplicate key {quote_name(key.value)}, first used in line {lines[key.value]}",
                )
            lines[key.value] = key.start_mark.line + 1
            self._positions[*path, key.value] = _position(key.start_mark)
            yield key.value, value


def _parse_scalar(node: yaml.Node) -> Any:
    if node.tag not in _SCALARS:
        reason = _NO_TAGS
        if node.tag.startswith(_TAG):
            reason = f"unsupported tag {node.tag.replace(_TAG, '!!')}"
        raise _refusal(node, reason)
    try:
        return _SCALARS[node.tag](node.value)
    except (KeyError, ValueError):
        raise _refusal(node, f"invalid {node.tag.removeprefix(_TAG)}") from None


def _refusal(node: yaml.Node, reason: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=node.start_mark)


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


# A dotted key with more parts than allowed; tomllib takes quadratic time for them.
_KEY = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?:{_KEY}\.[ \t]*+){{{MAX_DEPTH}}}")

# The tokens that determine the end of a TOML statement: comments, strings and brackets.
_TOML_TOKEN = re.compile(r"""#.*|"{3}|'{3}|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\[{]|[\]}]""")
# The rest of a multi-line string, with its end. Two more quotes may precede the end.
_TOML_STRING_REST = {
    '"""': re.compile(r'(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}', re.DOTALL),
    "'''": re.compile(r"(?:[^']|'{1,2}(?!'))*+'{3,5}", re.DOTALL),
}


def _parse_toml(text: str, name: str) -> SourceText:
    long_key = _LONG_KEY.search(text)
    if long_key:
        position = Position(text.count("\n", 0, long_key.start()) + 1)
        raise ConfigError(
            f"{format_position(name, position)}: "
            f"a key has too many parts, expected at most {MAX_DEPTH}"
        )
    try:
        return SourceText(tomllib.loads(text), _toml_positions(text, name))
    except RecursionError:
        raise ConfigError(f"{name}: {_TOO_DEEP}") from None
    except ValueError as error:  # TOMLDecodeError, or a number with too many digits
        position, reason = _parse_toml_error(str(error), text)
        raise ConfigError(f"{format_position(name, position)}: {reason}") from None


def _parse_toml_error(message: str, text: str) -> tuple[Position, str]:
    """Return the position and the reason of an error of tomllib."""
    last_line = Position(len(text.splitlines()) or 1)
    match = _TOML_PLACE.search(message)
    if match is None:
        return last_line, message
    reason = message[: match.start()]
    if match[1] is None:
        return last_line, reason
    return Position(int(match[1]), int(match[2])), reason


def _toml_positions(text: str, name: str) -> dict[Path, Position]:
    """Return the positions of all values of a valid text.

    Raises ConfigError for too many or too deeply nested values.
    """
    positions: dict[Path, Position] = {(): Position(1)}
    tables: dict[Path, int] = {}
    base: Path = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        start = statement.lstrip()
        if start.startswith("["):
            base = _table_path(parsed, tables, repeated=start.startswith("[["))
            paths = _prefixes(base)
        else:
            paths = _paths(parsed, base)
        position = Position(line)
        for path in paths:
            positions.setdefault(path, position)
            if len(path) > MAX_DEPTH:
                raise ConfigError(f"{format_position(name, position)}: {_TOO_DEEP}")
        if len(positions) > MAX_VALUES:
            raise ConfigError(
                f"{format_position(name, position)}: too many values, expected at most {MAX_VALUES}"
            )
    return positions


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of a valid text with the line on which it begins.

    Empty lines count as statements.
    """
    line = 1
    start = end = 0
    while end < len(text):
        end = _end_of_statement(text, end)
        yield line, text[start:end]
        line += text.count("\n", start, end)
        start = end


def _end_of_statement(text: str, at: int) -> int:
    """Return the end of the statement that begins at `at`, including its line end."""
    open_brackets = 0
    while True:
        line_end = text.find("\n", at)
        if line_end < 0:
            line_end = len(text)
        token = _TOML_TOKEN.search(text, at, line_end)
        if token is None:
            at = min(line_end + 1, len(text))
            if open_brackets <= 0 or line_end == len(text):
                return at
        elif token[0] in _TOML_STRING_REST:
            rest = _TOML_STRING_REST[token[0]].match(text, token.end())
            at = rest.end() if rest else len(text)
        else:
            if token[0] in "[{":
                open_brackets += 1
            elif token[0] in "]}":
                open_brackets -= 1
            at = token.end()


def _table_path(parsed: dict[str, Any], tables: dict[Path, int], *, repeated: bool) -> Path:
    """Return the path of the table that a header opens.

    parsed: the header, parsed alone. tables: the number of elements of each array of tables, which
    is updated. repeated: whether the header adds an element to such an array.
    """
    path: Path = ()
    value: Any = parsed
    while value and isinstance(value, dict):
        ((key, value),) = value.items()
        path = (*path, key)
        is_last = not value or not isinstance(value, dict)
        if is_last and repeated:
            tables[path] = tables.get(path, 0) + 1
        if path in tables:
            path = (*path, tables[path] - 1)
    return path


def _prefixes(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(1, len(path) + 1))


def _paths(value: Any, base: Path) -> Iterator[Path]:
    """Yield the paths of all values within a value, whose own path is `base`."""
    members: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for key, member in members:
        yield (*base, key)
        yield from _paths(member, (*base, key))


def format_position(name: str, position: Position) -> str:
    """Return a position in the format of compilers: `file:line:column`."""
    if position.column:
        return f"{name}:{position.line}:{position.column}"
    return f"{name}:{position.line}"


_READERS: Mapping[str, Callable[[str, str], SourceText]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
}
CONFIG_ENDINGS = frozenset(_READERS)
