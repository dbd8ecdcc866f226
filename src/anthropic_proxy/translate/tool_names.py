"""Convert tool names to names that upstreams accept, and back to the client's names.

Chat Completions accepts up to 64 characters of [a-zA-Z0-9_-]; Claude Code sends MCP names of 76 and
more. Moonshot requires a letter at the beginning, and Gemini a letter or an underscore. The proxy
truncates an invalid name and appends a part of its hash. The result is the same in every request
(in tools, tool_choice and history), and names with the same beginning stay distinct.

Members of a toolset may have the names of other tools. Upstream, the name of the toolset is their
prefix. Other tools whose names look like that get a hash too.

Models and servers leave parts of their own format around the names of calls. `find_offered_name`
removes known leftovers.
"""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

_LEGAL = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")
_ILLEGAL_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_TOOLSET_MEMBER = re.compile(r"(computer|browser)__[a-z_]+")
_MAX_READABLE = 55
# The beginning of names that do not start with a letter.
_LETTER_PREFIX = "tool_"

# Namespaces of the chat templates: gpt-oss and Kimi K2 (`functions.`), Gemini (`default_api`). No
# offered name contains a dot or a colon.
_NAMESPACES = ("functions.", "functions:", "default_api.", "default_api:")
# Leftovers around a name: quotation marks, a namespace, the number of the call (Kimi K2), and
# special tokens or tags with everything after them, such as `<|channel|>commentary` (gpt-oss).
_LEFTOVERS = re.compile(
    rf"""\s*+["'`]?+(?:{"|".join(map(re.escape, _NAMESPACES))})?+
    ([a-zA-Z0-9_-]++)
    (?::[0-9]++)?+["'`]?+\s*+(?:<.*)?""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class ToolName:
    """The name of a tool in the client's request."""

    name: str
    # `computer` or `browser` for a member of a toolset
    toolset_name: str | None = None


def to_upstream_name(name: str, toolset_name: str | None = None) -> str:
    """Return `name` if upstreams accept it, else a valid name derived from it."""
    if toolset_name:
        name = f"{toolset_name}__{name}"
    elif _TOOLSET_MEMBER.fullmatch(name):
        return _append_hash(name)
    if _LEGAL.fullmatch(name):
        return name
    return _append_hash(name)


def to_caller_name(names: Mapping[str, ToolName], name: str) -> ToolName:
    """Return the client's name for an upstream name.

    Unknown names stay unchanged: the client reports them to the model.
    """
    return names.get(name) or ToolName(name)


def find_offered_name(name: str, offered: Container[str]) -> str | None:
    """Return the offered name in the name of a call, without leftovers; None for other names."""
    if name in offered:
        return name
    match = _LEFTOVERS.fullmatch(name)
    if match is not None and match[1] in offered:
        return match[1]
    return None


def _append_hash(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    readable = _ILLEGAL_CHARACTER.sub("_", name)
    if not readable[:1].isalpha():
        readable = _LETTER_PREFIX + readable.lstrip("_-")
    return f"{readable[:_MAX_READABLE]}_{digest}"


class NamePrefixes:
    """A set of names with prefix search in logarithmic time. Prefixes may have a namespace."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def any_starts_with(self, prefix: str) -> bool:
        """Return whether a name starts with `prefix` or equals it."""
        return self._any_starts_at(bisect_left, prefix.lstrip())

    def any_extends(self, prefix: str) -> bool:
        """Return whether a name starts with `prefix` and is longer."""
        return self._any_starts_at(bisect_right, prefix.lstrip())

    def _any_starts_at(self, bisect: Callable[[list[str], str], int], prefix: str) -> bool:
        for namespace in _NAMESPACES:
            if namespace.startswith(prefix):
                return bool(self._names)
            if prefix.startswith(namespace):
                prefix = prefix.removeprefix(namespace)
                break
        index = bisect(self._names, prefix)
        return index < len(self._names) and self._names[index].startswith(prefix)
