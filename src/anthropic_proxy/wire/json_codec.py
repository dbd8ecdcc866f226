r"""Parse and write JSON. This is the only module that imports JSON libraries.

pydantic's parser and orjson's writer are fast, and the parser supports integers of any size, which
orjson would convert to floats. Clients and upstreams also send JSON that these libraries reject:
unpaired surrogates (a text truncated within an emoji, which JavaScript clients escape as `\ud83d`)
and integers of more than 64 bits. The standard library handles these.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson
from pydantic_core import from_json

# The values of a document are the document itself and all values in it; names of members are not
# values. A parsed value takes dozens of bytes (32 MB of empty arrays take 900 MB), so values are
# counted in the text before it is parsed. In an invalid document, a parser reads at most the
# counted number of values before the error.

# The number of bytes that are examined at once. Counting stops after the piece that exceeds the
# limit.
_PIECE_BYTES = 64 * 1024
_SPACE = b" \t\r\n"

# The maximum number of values in a received document. Real responses have less than 1 % of it.
MAX_RECEIVED_VALUES = 1_000_000

# pydantic_core raises TypeError for a str that cannot be encoded as UTF-8.
_HALF_PAIR = "unpaired surrogate"

# A JSON object in the wire format. Its content was validated (wire/anthropic/request.py), or is
# read with `.get`, because upstreams omit, add and rename fields.
JsonObject = dict[str, Any]


def loads(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """Parse one JSON document. Raises ValueError if it is invalid or nested too deeply.

    `allow_nan` accepts NaN and infinities, which are not JSON, but which servers send in fields
    that the proxy does not read.
    """
    try:
        return loads_strict(data, allow_nan=allow_nan)
    except ValueError:
        return _loads_lenient(data, allow_nan=allow_nan)


def loads_strict(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """Parse as `loads`, but also reject unpaired surrogates."""
    try:
        return from_json(data, allow_inf_nan=allow_nan)
    except TypeError as error:
        raise ValueError(_HALF_PAIR) from error


def _loads_lenient(data: bytes | str, *, allow_nan: bool) -> Any:
    # The standard library would detect the encoding of bytes, but JSON is UTF-8 (RFC 8259, 8.1).
    text = data if isinstance(data, str) else data.decode("utf-8-sig", "surrogatepass")
    try:
        return json.loads(text, parse_constant=None if allow_nan else _reject_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class InvalidJsonError(ValueError):
    """The text is not a JSON document."""

    def __init__(self, reason: str, end: int) -> None:
        super().__init__(reason)
        # position of the first character that was not read
        self.end = end


def loads_first(text: str, start: int) -> tuple[Any, int]:
    """Parse the JSON document that starts at text[start], and return its value and its end.

    Raises InvalidJsonError if there is none, and for NaN, infinities and unpaired surrogates.
    """
    end = len(text)
    try:
        _, end = _DECODER.raw_decode(text, start)
        return loads_strict(text[start:end], allow_nan=False), end
    except json.JSONDecodeError as error:
        raise InvalidJsonError(error.msg, error.pos) from error
    except (ValueError, RecursionError) as error:
        raise InvalidJsonError(str(error), end) from error


def loads_partial(text: str) -> Any:
    """Parse the beginning of a JSON document like the SDKs: drop an incomplete last member.

    Raises ValueError if the text is not the beginning of a document.
    """
    try:
        return loads(text)
    except ValueError:
        pass
    try:
        return from_json(text, allow_partial=True)
    except TypeError as error:
        raise ValueError(_HALF_PAIR) from error


def loads_received(data: bytes) -> Any:
    """Parse a document from a client or an upstream.

    Raises ValueError also if it has more than a million values, because each takes dozens of bytes
    of memory.
    """
    if len(data) > MAX_RECEIVED_VALUES and has_more_values(data, MAX_RECEIVED_VALUES):
        raise ValueError(f"more than {MAX_RECEIVED_VALUES} values")
    return loads(data)


def loads_object(data: bytes) -> JsonObject | None:
    """Parse an object from a client or an upstream; return None for other data."""
    try:
        value = loads_received(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def dumps(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON.

    Equal values give equal bytes, which is required for the prefix caches of upstreams.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def to_canonical_text(value: Any) -> str:
    """Return JSON that is the same for equal values, in any order of their keys.

    It distinguishes values that Python does not, such as true and 1.
    """
    return json.dumps(value, sort_keys=True)


def repair_json_surrogates(data: bytes | str) -> bytes:
    """Replace unpaired surrogates in a JSON document with U+FFFD.

    Raises ValueError for invalid JSON.
    """
    return repair_surrogates(json.dumps(loads(data), ensure_ascii=False)).encode()


def repair_surrogates(text: str) -> str:
    """Join surrogate pairs in `text`, and replace unpaired surrogates with U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def has_more_values(document: bytes, limit: int) -> bool:
    """Return whether the document has more than `limit` values.

    In a valid document, each string and container is a value or the name of a value. So the limit
    is also exceeded if their number is more than twice the limit.
    """
    # This is an upper bound, because it also counts commas in strings. It is sufficient for nearly
    # all documents.
    if 1 + _count_separators(document) <= limit:
        return False
    values, starts, last = 1, 0, b""
    for structure in _iter_structure(document):
        joined = last + structure
        starts += _count_starts(structure)
        values += _count_separators(structure) - joined.count(b"[]") - joined.count(b"{}")
        last = joined[-1:]
        # A container that starts at the end of this piece may be empty.
        may_be_empty = last in (b"[", b"{")
        if values - may_be_empty > limit or starts > 2 * limit:
            return True
    return values > limit


def _count_separators(text: bytes) -> int:
    """Count commas and opening brackets, after which a value starts unless a container is empty."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _count_starts(structure: bytes) -> int:
    """Count the strings and containers that start in `structure`."""
    return structure.count(b'"') + structure.count(b"[") + structure.count(b"{")


def _iter_structure(document: bytes) -> Iterator[bytes]:
    """Yield the document in pieces, without white space and with each string as one `"`."""
    in_string = False
    for text in _iter_pieces(document):
        # Without escapes, each quotation mark starts or ends a string.
        parts = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # Every second part is outside of strings.
        structure = b'"'.join(parts[in_string::2])
        if in_string and len(parts) > 1:
            # A string from an earlier piece ends in this piece.
            structure = b'"' + structure
        yield structure.translate(None, _SPACE)
        has_odd_quotes = len(parts) % 2 == 0
        in_string ^= has_odd_quotes


def _iter_pieces(document: bytes) -> Iterator[bytes]:
    """Yield the document in pieces that do not end within an escape sequence."""
    start = 0
    while start < len(document):
        piece = document[start : start + _PIECE_BYTES]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:
            piece = document[start : start + len(piece) + 1]
        yield piece
        start += len(piece)
