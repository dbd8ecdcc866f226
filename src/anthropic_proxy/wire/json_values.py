"""How many values a JSON document holds, counted on its text: parsed, each of them takes dozens of bytes of memory.

A value is an object, an array, a string, a number or a literal; names of members are not values. Counting parses nothing
and needs no valid document: what a parser reads before it finds an error has no more values than were counted.
"""

from collections.abc import Iterator

# Bytes that are examined at a time. Counting stops after the piece in which the limit is exceeded.
_PIECE_BYTES = 64 * 1024
_SPACE = b" \t\r\n"


def has_more_values(document: bytes, limit: int) -> bool:
    """Return whether the document has more than `most` values.

    In a valid document every string and container is a value or the name of one, so more than two of them for each value
    allowed exceed the limit, too.
    """
    # Commas within strings count here, and empty containers twice: nearly all documents need no closer look.
    if 1 + _count_separators(document) <= limit:
        return False
    values, starts, last = 1, 0, b""
    for structure in _iter_structure(document):
        joined = last + structure
        starts += _count_starts(structure)
        values += _count_separators(structure) - joined.count(b"[]") - joined.count(b"{}")
        last = joined[-1:]
        # The next piece may show that a container that begins at the end of this one is empty.
        may_be_empty = last in (b"[", b"{")
        if values - may_be_empty > limit or starts > 2 * limit:
            return True
    return values > limit


def _count_separators(text: bytes) -> int:
    """Return how many values begin after a comma or a bracket, where no container is empty."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _count_starts(structure: bytes) -> int:
    """Return how many strings and containers begin."""
    return structure.count(b'"') + structure.count(b"[") + structure.count(b"{")


def _iter_structure(document: bytes) -> Iterator[bytes]:
    """Yield the text piece by piece, without white space and with a quotation mark in place of each string."""
    in_string = False
    for text in _iter_pieces(document):
        # Without escapes, each quotation mark begins or ends a string.
        parts = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b'"'.join(parts[in_string::2])
        ends_string = in_string and len(parts) > 1
        yield (b'"' + outside if ends_string else outside).translate(None, _SPACE)
        in_string ^= len(parts) % 2 == 0


def _iter_pieces(document: bytes) -> Iterator[bytes]:
    """Yield the document in pieces that do not end within an escape."""
    start = 0
    while start < len(document):
        piece = document[start : start + _PIECE_BYTES]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:
            piece = document[start : start + len(piece) + 1]
        yield piece
        start += len(piece)
