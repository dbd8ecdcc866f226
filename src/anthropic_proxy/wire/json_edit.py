"""Replace and remove members of a JSON object in its text, without changes to other bytes.

Parsing and serializing would change the form of numbers and remove repeated names. So this module
searches the text for the members of the outermost object. A regular expression skips from bracket
to bracket in their values, so a long request takes one or two milliseconds.
"""

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple

from anthropic_proxy.wire.json_codec import dumps, loads

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]++")
# Text up to the next bracket. Containers with one or two levels, which are the most frequent, count
# as text.
_NO_VALUES = rb'[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb"[{\[](?:" + _NO_VALUES + rb")*+[}\]]"
_FLAT_IN_FLAT = rb"[{\[](?:" + _NO_VALUES + rb"|" + _FLAT + rb")*+[}\]]"
_NO_BRACKET = re.compile(rb"(?:" + _NO_VALUES + rb"|" + _FLAT_IN_FLAT + rb")*+", re.DOTALL)
_OPENING = b"{["


class _Member(NamedTuple):
    name: str
    # byte offsets of the name and of the value
    name_start: int
    start: int
    end: int


def replace_members(document: bytes, values: Mapping[str, Any]) -> bytes:
    """Set members of a JSON object: replace existing members and append the others.

    `document` must be the text of a valid object. If it has several members with the same name, the
    first is replaced and the others are removed, so long values are not repeated.
    """
    pieces: list[bytes] = []
    position = previous_end = 0
    replaced_names: set[str] = set()
    for member in _iter_members(document):
        if member.name in replaced_names:
            # Remove the comma before it too.
            pieces.append(document[position:previous_end])
            position = member.end
        elif member.name in values:
            pieces += [document[position : member.start], dumps(values[member.name])]
            position = member.end
            replaced_names.add(member.name)
        previous_end = member.end
    new_members: list[bytes] = []
    for name, value in values.items():
        if name not in replaced_names:
            new_members.append(dumps(name) + b":" + dumps(value))
    if not new_members:
        return b"".join([*pieces, document[position:]])
    is_empty = not previous_end
    end = document.rindex(b"}")
    comma = b"" if is_empty else b","
    return b"".join(
        [*pieces, document[position:end], comma, b",".join(new_members), document[end:]]
    )


def remove_members(document: bytes, names: Container[str]) -> bytes:
    """Remove members of a JSON object.

    `document` must be the text of a valid object.
    """
    pieces: list[bytes] = []
    position = previous_end = 0
    has_kept_member = False
    for member in _iter_members(document):
        if member.name in names:
            if has_kept_member:
                # Remove the comma before it too.
                pieces.append(document[position:previous_end])
            elif not position:
                pieces.append(document[: member.name_start])
            position = member.end
        elif not has_kept_member:
            has_kept_member = True
            if position:
                # Remove the comma after the first members too.
                position = member.name_start
        previous_end = member.end
    return b"".join([*pieces, document[position:]])


def _iter_members(document: bytes) -> Iterator[_Member]:
    pos = _skip_space(document, document.index(b"{") + 1)
    while document[pos : pos + 1] == b'"':
        name_end = _find_value_end(document, pos)
        name = loads(document[pos:name_end])
        start = _skip_space(document, document.index(b":", name_end) + 1)
        end = _find_value_end(document, start)
        yield _Member(name, pos, start, end)
        pos = _skip_space(document, end)
        if document[pos : pos + 1] == b",":
            pos = _skip_space(document, pos + 1)


def _find_value_end(document: bytes, start: int) -> int:
    """Return the end of the value that starts at `start`."""
    first = document[start : start + 1]
    if first not in (b"{", b"["):
        pattern = _STRING if first == b'"' else _SCALAR
        return _match_end(pattern, document, start)
    depth, pos = 1, start + 1
    while depth:
        pos = _match_end(_NO_BRACKET, document, pos)
        depth += 1 if document[pos] in _OPENING else -1
        pos += 1
    return pos


def _skip_space(document: bytes, pos: int) -> int:
    return _match_end(_SPACE, document, pos)


def _match_end(pattern: re.Pattern[bytes], document: bytes, pos: int) -> int:
    """Return the end of the match at `pos`. In a valid document, there is always a match."""
    match = pattern.match(document, pos)
    return match.end() if match else len(document)
