"""How many values a JSON document holds, counted on its text: parsed, each of them takes dozens of bytes of memory.

A value is an object, an array, a string, a number or a literal; names of members are not values. Whoever counts parses
nothing and needs no valid document: what a parser reads before it finds an error has no more values than were counted.
"""

from collections.abc import Iterator

_PIECE = 1024 * 1024
_SPACE = b" \t\r\n"


def has_more_values(document: bytes, most: int) -> bool:
    """Return whether the document has more than `most` values."""
    # Commas within strings count here, and empty containers twice: nearly all documents need no closer look.
    if _most_values(document) <= most:
        return False
    structure = b"".join(_structure(document))
    empty = structure.count(b"[]") + structure.count(b"{}")
    return _most_values(structure) - empty > most


def _most_values(text: bytes) -> int:
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _structure(document: bytes) -> Iterator[bytes]:
    """Yield the text without white space, with a quotation mark in place of each string."""
    # Without escapes, each quotation mark begins or ends a string.
    text = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    within_string = False
    for start in range(0, len(text), _PIECE):
        pieces = text[start : start + _PIECE].split(b'"')
        outside = b'"'.join(pieces[within_string::2])
        yield (b'"' + outside if within_string else outside).translate(None, _SPACE)
        within_string ^= len(pieces) % 2 == 0
