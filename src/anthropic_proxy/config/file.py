"""The configuration file (CONFIG_FILE): several upstreams, and which of them answers what.

text -> values with their places (config_text) -> variables put in -> entries checked (config_entries, config_values). Each
problem is told with file and line, the path of the value, what was given and what is allowed, and all of them at once.
What may be secret is not shown, and nothing is that came out of a variable.

Pure: variables come in as a mapping, and files that hold keys through a function.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from anthropic_proxy.config.file_models import (
    FactsEntry,
    FileEntry,
    LimitsEntry,
    RouteEntry,
    TargetEntry,
    TimeoutsEntry,
    UpstreamEntry,
)
from anthropic_proxy.config.file_values import Around, suggestion
from anthropic_proxy.config.yaml_toml import Path, Source, located, parse_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.errors.redaction import MASK, is_key_like, shown_url

_VARIABLE = re.compile(r"\$(?P<literal>\$)?\{(?P<inside>[^}]*)(?P<end>\})?")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_SECRETS = frozenset({"key", "keys", "key_file", "keys_file", "headers", "query", "extra_body"})
# The start of a URL; a key may hold `://`, too.
_URL = re.compile(r"[a-z]{2,5}://", re.IGNORECASE)


@dataclass(frozen=True)
class ConfigFile:
    """upstreams: by name, in their order; the keys of each are in its `keys`. aliases: targets by the client's model."""

    upstreams: Mapping[str, UpstreamEntry]
    routes: tuple[RouteEntry, ...]
    aliases: Mapping[str, TargetEntry]


def parse(
    text: str, name: str, environment: Mapping[str, str], read: Callable[[PurePath], str]
) -> ConfigFile:
    """The checked content of a configuration file.

    name: the file's path, whose ending tells YAML from TOML. environment: the values of `${VARIABLE}`. read: the text of a
    file with keys, by its path (relative ones are relative to the configuration file; a leading `~` is left to it); raises
    OSError or UnicodeDecodeError. Raises ConfigError with a line for each problem.
    """
    source = parse_text(text, name)
    if not isinstance(source.value, dict):
        raise ConfigError(f"{name}:1: the file should hold a mapping with `upstreams`")
    problems: dict[Path, str] = {}
    value = _with_variables(source.value, (), environment, problems)
    upstreams = value.get("upstreams")
    around = Around(
        upstreams=tuple(upstreams) if isinstance(upstreams, dict) else (),
        read=lambda path: read(path if path.parts[:1] == ("~",) else PurePath(name).parent / path),
    )
    try:
        entry = FileEntry.model_validate(value, context=around)
    except ValidationError as error:
        _add_problems(error, source.value, problems)
    if problems:
        raise ConfigError("\n".join(_told(problems, source, name)))
    return ConfigFile(
        MappingProxyType({key: each.with_all_keys() for key, each in entry.upstreams.items()}),
        entry.routes,
        MappingProxyType(dict(entry.aliases)),
    )


def _with_variables(
    value: Any, path: Path, environment: Mapping[str, str], problems: dict[Path, str]
) -> Any:
    """The value with `${...}` in its texts replaced. What can't be replaced is added to `problems`, and stays."""
    if isinstance(value, dict):
        return {
            key: _with_variables(each, (*path, key), environment, problems)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [
            _with_variables(each, (*path, index), environment, problems)
            for index, each in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    try:
        return _VARIABLE.sub(lambda found: _replacement(found, environment), value)
    except ValueError as error:
        problems[path] = str(error)
        return value


def _replacement(found: re.Match[str], environment: Mapping[str, str]) -> str:
    """An empty variable counts as not set, as it does everywhere."""
    if found["literal"]:
        return found[0][1:]
    parts = _NAME_AND_DEFAULT.fullmatch(found["inside"])
    if not parts or not found["end"]:
        raise ValueError(
            "a variable is written ${NAME} or ${NAME:-default}, and a literal ${ as $${"
        )
    given = environment.get(parts[1]) or parts[2]
    if given is None:
        raise ValueError(
            f"the variable {parts[1]} is not set, and has no default: ${{{parts[1]}:-default}}"
        )
    return given


def _add_problems(error: ValidationError, value: Any, problems: dict[Path, str]) -> None:
    """Add what pydantic found, by the path in the file. What is wrong already is not told again by what follows from it."""
    unresolved = tuple(problems)
    for each in error.errors(include_url=False, include_context=False):
        path = _path_in_file(each["loc"], value)
        if not any(path[: len(known)] == known for known in unresolved):
            problems.setdefault(path, _text(each, path, _at(path, value)))


def _path_in_file(loc: Path, value: Any) -> Path:
    """pydantic's location without the steps that the file does not have, as for a single item in place of a list."""
    path: list[str | int] = []
    for part in loc:
        known = isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int))
        if known and part in (value if isinstance(value, dict) else range(len(value))):
            path.append(part)
            value = value[part]
        elif isinstance(value, dict) and part is loc[-1] and part != "[key]":
            path.append(part)
    return tuple(path)


def _at(path: Path, value: Any) -> Any:
    """The value at a path; None when it is missing."""
    for part in path:
        value = value.get(part) if isinstance(value, dict) else value[int(part)]
    return value


def _text(error: Any, path: Path, given: Any) -> str:
    kind, message = error["type"], str(error["msg"])
    if kind in ("missing", "whole"):
        return "is required" if kind == "missing" else message
    if kind == "extra_forbidden":
        return "is not known" + suggestion(str(path[-1]), tuple(_model(path[:-1]).model_fields))
    if error["loc"][-1] == "[key]":
        return message.removeprefix("Value error, ")
    reason = _WORDS.get(kind) or message.removeprefix("Value error, ").removeprefix(
        "Input "
    ).replace("String ", "")
    return f"{_shown(path, given)} {reason}"


_WORDS: Mapping[str, str] = {
    "dict_type": "should be a mapping",
    "mapping_type": "should be a mapping",
    "model_type": "should be a mapping",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "string_type": "should be a text: put it into quotes",
    "string_too_short": "should not be empty",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "invalid-json-value": "should be a value of JSON",
}

_MODELS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): FileEntry,
    ("upstreams", "*"): UpstreamEntry,
    ("upstreams", "*", "timeouts"): TimeoutsEntry,
    ("upstreams", "*", "limits"): LimitsEntry,
    ("upstreams", "*", "facts"): FactsEntry,
    ("routes",): RouteEntry,
    ("routes", "targets"): TargetEntry,
    ("aliases", "*"): TargetEntry,
}


def _model(path: Path) -> type[BaseModel]:
    """The model of the entry at a path."""
    names = [part for part in path if isinstance(part, str)]
    if len(names) > 1 and names[0] in ("upstreams", "aliases"):
        names[1] = "*"
    return _MODELS[tuple(names)]


def _shown(path: Path, given: Any) -> str:
    """What was given, as it stands in the file, without what may be secret."""
    if path[:1] == ("upstreams",) and not _SECRETS.isdisjoint(path[2:]):
        return "the given value"
    if path[:1] == ("upstreams",) and path[2:] == ("url",) and isinstance(given, str):
        return shown_url(given) if _URL.match(given) else "the given value"
    words = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return words.get(type(given)) or (
        str(given).lower() if isinstance(given, bool) else repr(given)
    )


def _told(problems: Mapping[Path, str], source: Source, name: str) -> Iterator[str]:
    """The problems as lines, in the order of the file."""
    placed = [(_place(path, source), path, text) for path, text in problems.items()]
    for place, path, text in sorted(placed, key=lambda each: each[0]):
        yield f"{located(name, place)}: {_named(path)}: {text}"


def _place(path: Path, source: Source) -> Any:
    """Of a value, or of what it is missing from."""
    return next(
        source.places[path[:length]]
        for length in range(len(path), -1, -1)
        if path[:length] in source.places
    )


def _named(path: Path) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{_named_part(part)}" for part in path
    ).removeprefix(".")


def _named_part(part: str) -> str:
    """Return a name of the file for an error. A header or a key may have been written in its place."""
    return MASK if is_key_like(part) or ":" in part else part
