"""Members of a JSON object replaced within its text: every other byte stays as it was.

What is parsed and written again is never quite the same: numbers change their form, repeated names disappear. So the text
of the outermost object is walked, and only its own members are looked at; a regular expression leaps from bracket to
bracket through what they hold, so that a long request takes a millisecond or two.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from anthropic_proxy.wire.json_codec import dumps, loads

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]++")
# All up to the next bracket that is not within a string, nor within a value of up to two levels: most are that flat.
_NO_VALUES = rb'[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb"[{\[](?:" + _NO_VALUES + rb")*+[}\]]"
_FLAT_IN_FLAT = rb"[{\[](?:" + _NO_VALUES + rb"|" + _FLAT + rb")*+[}\]]"
_NO_BRACKET = re.compile(rb"(?:" + _NO_VALUES + rb"|" + _FLAT_IN_FLAT + rb")*+", re.DOTALL)
_OPENING = b"{["


class _Member(NamedTuple):
    """start and end: of the value, in bytes."""

    name: str
    start: int
    end: int


def with_members(document: bytes, values: Mapping[str, Any]) -> bytes:
    """The text of a JSON object with these members in place of its own of these names, and the others at its end.

    `document` is known to be the text of an object (it was parsed). Of members with one of the names, the first is
    replaced and the others are removed, so that a long value is not repeated.
    """
    pieces: list[bytes] = []
    done = previous_end = 0
    found: set[str] = set()
    for member in _members(document):
        if member.name in found:
            # With the comma in front of it.
            pieces.append(document[done:previous_end])
            done = member.end
        elif member.name in values:
            pieces += [document[done : member.start], dumps(values[member.name])]
            done = member.end
            found.add(member.name)
        previous_end = member.end
    is_empty = not previous_end
    rest = [
        dumps(name) + b":" + dumps(value) for name, value in values.items() if name not in found
    ]
    if not rest:
        return b"".join([*pieces, document[done:]])
    end = document.rindex(b"}")
    added = b",".join(rest)
    return b"".join([*pieces, document[done:end], b"" if is_empty else b",", added, document[end:]])


def _members(document: bytes) -> Iterator[_Member]:
    at = _after_space(document, document.index(b"{") + 1)
    while document[at : at + 1] == b'"':
        name_end = _end_of(document, at)
        name = loads(document[at:name_end])
        start = _after_space(document, document.index(b":", name_end) + 1)
        end = _end_of(document, start)
        yield _Member(name, start, end)
        at = _after_space(document, end)
        if document[at : at + 1] == b",":
            at = _after_space(document, at + 1)


def _end_of(document: bytes, start: int) -> int:
    """Where the value that begins at `start` ends."""
    first = document[start : start + 1]
    if first not in (b"{", b"["):
        pattern = _STRING if first == b'"' else _SCALAR
        return _matched(pattern, document, start)
    depth, at = 1, start + 1
    while depth:
        at = _matched(_NO_BRACKET, document, at)
        depth += 1 if document[at] in _OPENING else -1
        at += 1
    return at


def _after_space(document: bytes, at: int) -> int:
    return _matched(_SPACE, document, at)


def _matched(pattern: re.Pattern[bytes], document: bytes, at: int) -> int:
    """The end of what the pattern matches; the text is valid, so that it always matches something."""
    match = pattern.match(document, at)
    return match.end() if match else len(document)
