"""Tool names: legal for the upstream, and back again for the client.

Chat Completions takes names of up to 64 characters of [a-zA-Z0-9_-]; Claude Code passes on MCP names of 76 and more. A name
that is not legal is cut and gets the beginning of its own hash, so the same name becomes the same name in every request
(tools, tool_choice and history alike), and two names that begin alike stay apart.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_KEPT = 55


def upstream_name(name: str) -> str:
    """`name` itself where it is legal, else its legal form (at most 64 characters)."""
    if _LEGAL.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_ILLEGAL_CHARACTER.sub('_', name)[:_KEPT]}_{digest}"


def renamed(names: Iterable[str]) -> Mapping[str, str]:
    """The way back: legal form -> name, for those names that had to change."""
    return {upstream_name(name): name for name in names if not _LEGAL.fullmatch(name)}
