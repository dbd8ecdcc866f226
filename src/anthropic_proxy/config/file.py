"""Parse the configuration file (CONFIG_FILE): upstreams, routes and aliases.

Text -> values with their positions (yaml_toml) -> variables replaced -> entries validated
(upstream_config, file_models). One error reports all problems, each with file and line, the path of
the value, the value and the reason. Messages show neither possible secrets nor the values of
variables.

The module does no I/O: the caller passes the variables as a mapping, and a function that reads the
files with keys.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from anthropic_proxy.config.file_models import FileEntry, RouteEntry, TargetEntry
from anthropic_proxy.config.messages import show_name, show_value
from anthropic_proxy.config.upstream_config import (
    FORMER_NAMES,
    ProviderSettings,
    UpstreamConfig,
    ValidationContext,
    suggestion,
)
from anthropic_proxy.config.yaml_toml import Path, Position, SourceText, format_position, parse_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.routing.upstream import ConcurrencyLimits, Timeouts

_VARIABLE = re.compile(r"\$(?P<literal>\$)?\{(?P<inside>[^}]*)(?P<end>\})?")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True)
class ConfigFile:
    """The validated content of a configuration file."""

    # By name, in their order.
    upstreams: Mapping[str, UpstreamConfig]
    routes: tuple[RouteEntry, ...]
    # By the client's name of the model.
    aliases: Mapping[str, TargetEntry]
    # Former names of settings that the file uses.
    former_names: tuple[str, ...] = ()


def parse_config(
    text: str, name: str, environment: Mapping[str, str], read: Callable[[PurePath], str]
) -> ConfigFile:
    """Return the validated content of a configuration file.

    name: path of the file; its suffix selects YAML or TOML.
    environment: the values of `${VARIABLE}`.
    read: returns the text of a file with keys, or raises OSError or UnicodeDecodeError; it expands
    a leading `~`. Other relative paths are relative to the configuration file.

    Raises ConfigError with a line for each problem.
    """
    source = parse_text(text, name)
    if not isinstance(source.value, dict):
        raise ConfigError(f"{name}:1: expected a mapping with `upstreams`")
    problems: dict[Path, str] = {}
    value = _replace_variables(source.value, (), environment, problems)
    upstreams = value.get("upstreams")
    if not isinstance(upstreams, dict):
        upstreams = {}
    former_names = _replace_former_names(upstreams, problems)

    def read_beside(path: PurePath) -> str:
        if path.parts[:1] == ("~",):
            return read(path)
        return read(PurePath(name).parent / path)

    context = ValidationContext(read_beside, upstreams=tuple(upstreams))
    try:
        entry = FileEntry.model_validate(value, context=context)
    except ValidationError as error:
        _add_problems(error, source.value, problems)
    if problems:
        raise ConfigError("\n".join(_lines(problems, source, name)))
    return ConfigFile(
        MappingProxyType(dict(entry.upstreams)),
        entry.routes,
        MappingProxyType(dict(entry.aliases)),
        former_names,
    )


def _replace_former_names(
    upstreams: Mapping[str, Any], problems: dict[Path, str]
) -> tuple[str, ...]:
    """Rename settings of upstreams that have a former name, in place. Return the former names.

    A setting whose two names have different values is added to `problems`.
    """
    former_names = set()
    for upstream, entry in upstreams.items():
        for former, name in FORMER_NAMES.items():
            if not isinstance(entry, dict) or former not in entry:
                continue
            former_names.add(former)
            value = entry.pop(former)
            if entry.setdefault(name, value) != value:
                problems["upstreams", upstream, former] = (
                    f"is the former name of {name}, which has a different value"
                )
    return tuple(sorted(former_names))


def _replace_variables(
    value: Any, path: Path, environment: Mapping[str, str], problems: dict[Path, str]
) -> Any:
    """Return a copy of the value with `${...}` in its texts replaced.

    path: of the value. Texts with variables that cannot be replaced are added to `problems`.
    """
    if isinstance(value, dict):
        mapping = {}
        for key, member in value.items():
            mapping[key] = _replace_variables(member, (*path, key), environment, problems)
        return mapping
    if isinstance(value, list):
        items = []
        for index, item in enumerate(value):
            items.append(_replace_variables(item, (*path, index), environment, problems))
        return items
    if not isinstance(value, str):
        return value
    try:
        return _VARIABLE.sub(lambda match: _replacement(match, environment), value)
    except ValueError as error:
        problems[path] = str(error)
        return value


def _replacement(match: re.Match[str], environment: Mapping[str, str]) -> str:
    """Return the replacement of `${...}`. An empty variable counts as not set, as in Settings."""
    if match["literal"]:
        return match[0][1:]
    parts = _NAME_AND_DEFAULT.fullmatch(match["inside"])
    if not parts or not match["end"]:
        raise ValueError("expected ${NAME} or ${NAME:-default}; write $${ for a literal ${")
    value = environment.get(parts[1]) or parts[2]
    if value is None:
        raise ValueError(
            f"variable {parts[1]} is not set: set it, or write ${{{parts[1]}:-default}}"
        )
    return value


def _add_problems(error: ValidationError, value: Any, problems: dict[Path, str]) -> None:
    """Add the errors of pydantic, except those of values that already have a problem.

    value: of the file, before the replacement of variables.
    """
    reported = frozenset(problems)
    for each in error.errors(include_url=False, include_context=False):
        path, invalid_value = _locate(each["loc"], value)
        if reported.isdisjoint(path[:length] for length in range(len(path) + 1)):
            problems.setdefault(path, _describe(each, path, invalid_value))


def _locate(location: Path, value: Any) -> tuple[Path, Any]:
    """Return the path in the file and the value (None if missing) for a location of pydantic.

    The path omits parts of the location that the file does not have: the index of a single item in
    place of a list, and `[key]`, which marks an error of the key.
    """
    path: list[str | int] = []
    for part in location:
        key = _find_key(part, value)
        if key is not None:
            path.append(key)
            value = value[key]
        elif isinstance(value, dict) and part is location[-1] and part != "[key]":
            path.append(part)
            value = None
    return tuple(path), value


def _find_key(part: str | int, value: Any) -> str | int | None:
    """Return the key or index in `value` of a part of a location; None if there is none."""
    if isinstance(value, list):
        is_index = isinstance(part, int) and part < len(value)
        return part if is_index else None
    if not isinstance(value, dict):
        return None
    if part in value:
        return part
    for former, name in FORMER_NAMES.items():
        if name == part and former in value:
            return former
    return None


def _describe(error: ErrorDetails, path: Path, value: Any) -> str:
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not known" + suggestion(str(path[-1]), tuple(_model(path[:-1]).model_fields))
    if kind == "key_sources" or error["loc"][-1] == "[key]":
        return message
    reason = _WORDS.get(kind) or message.removeprefix("Input ").replace("String ", "")
    upstream_path = path[2:] if path[0] == "upstreams" else ()
    return f"{show_value(value, upstream_path)} {reason}"


_WORDS: Mapping[str, str] = {
    "dict_type": "should be a mapping",
    "mapping_type": "should be a mapping",
    "model_type": "should be a mapping",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "string_type": "should be a string: put it in quotes",
    "string_too_short": "should not be empty",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "invalid-json-value": "should be a JSON value",
}

_MODELS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): FileEntry,
    ("upstreams", "*"): UpstreamConfig,
    ("upstreams", "*", "timeouts"): Timeouts,
    ("upstreams", "*", "limits"): ConcurrencyLimits,
    ("upstreams", "*", "provider_settings"): ProviderSettings,
    ("routes",): RouteEntry,
    ("routes", "targets"): TargetEntry,
    ("aliases", "*"): TargetEntry,
}


def _model(path: Path) -> type[BaseModel]:
    """Return the model of the entry at a path."""
    names = [part for part in path if isinstance(part, str)]  # without indices
    if len(names) > 1 and names[0] in ("upstreams", "aliases"):
        names[1] = "*"
        names[2:] = [FORMER_NAMES.get(name, name) for name in names[2:]]
    return _MODELS[tuple(names)]


def _lines(problems: Mapping[Path, str], source: SourceText, name: str) -> Iterator[str]:
    """Yield a line for each problem, in the order of the file."""
    positions = {path: _nearest_position(path, source) for path in problems}
    for path in sorted(problems, key=lambda path: positions[path]):
        position = format_position(name, positions[path])
        yield f"{position}: {_format_path(path)}: {problems[path]}"


def _nearest_position(path: Path, source: SourceText) -> Position:
    """Return the position of a value, or of the nearest parent of a missing value."""
    while path not in source.positions:
        path = path[:-1]
    return source.positions[path]


def _format_path(path: Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{show_name(part)}"
    return text.removeprefix(".")
