"""Convert tool names to legal names for the upstream, and back to the caller's names.

Chat Completions accepts names of up to 64 characters of [a-zA-Z0-9_-]; Claude Code forwards MCP
names of 76 and more. An illegal name is cut and ends in the beginning of its own hash, so it is the
same in every request (tools, tool_choice and history alike), and names with the same beginning stay
distinct. The members of a toolset share the names of other tools; upstream their names start with
that of the toolset, and other tools with such names end in their hash too.
"""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_TOOLSET_MEMBER = re.compile(r"(computer|browser)__[a-z_]+")
_MAX_READABLE = 55


@dataclass(frozen=True)
class ToolName:
    """The client's name of a tool."""

    name: str
    # `computer` or `browser` for a member of a toolset
    toolset_name: str | None = None


def to_upstream_name(name: str, toolset_name: str | None = None) -> str:
    """Return the upstream's name of a tool: `name` if it is legal, else its legal form."""
    if toolset_name:
        name = f"{toolset_name}__{name}"
    elif _TOOLSET_MEMBER.fullmatch(name):
        return _append_hash(name)
    if _LEGAL.fullmatch(name):
        return name
    return _append_hash(name)


def to_caller_name(names: Mapping[str, ToolName], name: str) -> ToolName:
    """Return the client's name of an upstream name.

    An unknown name stays: the client reports it to the model.
    """
    return names.get(name) or ToolName(name)


def _append_hash(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_ILLEGAL_CHARACTER.sub('_', name)[:_MAX_READABLE]}_{digest}"


class NamePrefixes:
    """Names that can be searched by their beginnings, in logarithmic time."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def any_starts_with(self, prefix: str) -> bool:
        """Return whether a name is `prefix` or starts with it."""
        return self._starts_at(bisect_left(self._names, prefix), prefix)

    def any_extends(self, prefix: str) -> bool:
        """Return whether a name starts with `prefix` and is longer."""
        return self._starts_at(bisect_right(self._names, prefix), prefix)

    def _starts_at(self, index: int, prefix: str) -> bool:
        return index < len(self._names) and self._names[index].startswith(prefix)
