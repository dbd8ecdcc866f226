"""Parse and write JSON: the only module that imports JSON libraries.

pydantic's parser reads and orjson writes: both are fast, and the parser keeps integers of any size,
which orjson would turn into floats. The standard library handles what the two reject but real peers
send: half of a surrogate pair (a text cut in the middle of an emoji, which JavaScript clients
escape as `\\ud83d`) and integers beyond 64 bits.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson
from pydantic_core import from_json

# A document is an object, an array, a string, a number or a literal, and its values are itself and
# all values in it. Names of members are not values. A parsed value takes dozens of bytes (32 MB of
# empty arrays take 900 MB), so values are counted in the text, before it is parsed. The document
# need not be valid: a parser reads no more values before it finds an error than were counted.

# Bytes that are examined at a time. Counting stops after the piece that exceeds the limit.
_PIECE_BYTES = 64 * 1024
_SPACE = b" \t\r\n"

# Values in a document from a peer. No real response has a hundredth of them.
_MAX_RECEIVED_VALUES = 1_000_000

# pydantic_core raises TypeError for a str that has no UTF-8 form.
_HALF_PAIR = "half of a surrogate pair"

# A JSON object in the wire format. Its content was validated (wire/anthropic/request.py), or is
# read with `.get`, because upstreams omit, add and rename fields.
JsonObject = dict[str, Any]


def loads(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """Parse one JSON document. Raises ValueError when it is invalid or nested too deeply.

    NaN and infinities are not JSON, but servers write them into fields that the proxy does not
    read; `allow_nan` accepts them.
    """
    try:
        return loads_strict(data, allow_nan=allow_nan)
    except ValueError:
        return _loads_lenient(data, allow_nan=allow_nan)


def loads_strict(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """Parse as `loads` does, but also reject halves of surrogate pairs."""
    try:
        return from_json(data, allow_inf_nan=allow_nan)
    except TypeError as error:
        raise ValueError(_HALF_PAIR) from error


def _loads_lenient(data: bytes | str, *, allow_nan: bool) -> Any:
    # The standard library would guess the encoding of bytes, but JSON is UTF-8 (RFC 8259, 8.1).
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
    """Parse the JSON document that begins at text[start]; return its value and its end.

    Raises InvalidJsonError when there is none, and for NaN, infinities and halves of surrogate
    pairs.
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
    """Parse the beginning of a JSON document as the SDKs do: drop an incomplete last member.

    Raises ValueError when the text does not begin a document.
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
    """Parse a document from a peer. Raises ValueError also when it has more than a million values,
    because each takes dozens of bytes of memory.
    """
    if len(data) > _MAX_RECEIVED_VALUES and has_more_values(data, _MAX_RECEIVED_VALUES):
        raise ValueError(f"more than {_MAX_RECEIVED_VALUES} values")
    return loads(data)


def loads_object(data: bytes) -> JsonObject | None:
    """Parse an object from a peer; return None when `data` is anything else."""
    try:
        value = loads_received(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def dumps(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON. Equal values give equal bytes, so that prefix caches of
    upstreams hit.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def repair_json_surrogates(data: bytes | str) -> bytes:
    """Replace halves of surrogate pairs in a JSON document with U+FFFD. Raises ValueError when it
    is not JSON.
    """
    return repair_surrogates(json.dumps(loads(data), ensure_ascii=False)).encode()


def repair_surrogates(text: str) -> str:
    """Join the halves of surrogate pairs in `text`, and replace unpaired halves with U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def has_more_values(document: bytes, limit: int) -> bool:
    """Return whether the document has more than `limit` values.

    In a valid document every string and container is a value or the name of one. So it exceeds the
    limit also when it has more than twice as many of them.
    """
    # This counts commas within strings, and empty containers twice. It is enough for nearly all
    # documents.
    if 1 + _count_separators(document) <= limit:
        return False
    values, starts, last = 1, 0, b""
    for structure in _iter_structure(document):
        joined = last + structure
        starts += _count_starts(structure)
        values += _count_separators(structure) - joined.count(b"[]") - joined.count(b"{}")
        last = joined[-1:]
        # A container that begins at the end of this piece may be empty.
        may_be_empty = last in (b"[", b"{")
        if values - may_be_empty > limit or starts > 2 * limit:
            return True
    return values > limit


def _count_separators(text: bytes) -> int:
    """Count values that begin after a comma or a bracket, as if no container were empty."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _count_starts(structure: bytes) -> int:
    """Count the beginnings of strings and containers."""
    return structure.count(b'"') + structure.count(b"[") + structure.count(b"{")


def _iter_structure(document: bytes) -> Iterator[bytes]:
    """Yield the document in pieces, without white space and with one quotation mark for each
    string.
    """
    in_string = False
    for text in _iter_pieces(document):
        # Without escapes, each quotation mark begins or ends a string.
        parts = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # Every other part is outside strings.
        structure = b'"'.join(parts[in_string::2])
        if in_string and len(parts) > 1:
            # The string that began in an earlier piece ends in this one.
            structure = b'"' + structure
        yield structure.translate(None, _SPACE)
        has_odd_quotes = len(parts) % 2 == 0
        in_string ^= has_odd_quotes


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
