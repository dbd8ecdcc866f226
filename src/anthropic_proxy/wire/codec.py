"""JSON in and out: the only module that names a JSON library.

orjson does the work. It refuses a few things that real peers send: half of a surrogate pair (a text cut in the middle of
an emoji, which JavaScript clients escape as `\\ud83d`) and integers beyond 64 bits. For those, and only those, the
standard library takes over, so that nothing a peer sends is lost.
"""

import json
import re
from typing import Any

import orjson

# A JSON object in the wire's own shape. What is inside was checked at the door (see wire/anthropic.py) or is read with
# `.get`, as upstreams leave out, add and rename fields.
JsonObject = dict[str, Any]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(data: bytes | str) -> Any:
    """Parse one JSON document. Raises ValueError when it is none (or is nested too deeply to be parsed)."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def dumps(value: Any) -> bytes:
    """Write `value` as compact UTF-8 JSON. Equal values give equal bytes, so that upstream prefix caches hold."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def without_lone_surrogates(data: bytes) -> bytes:
    """The same JSON document with U+FFFD in place of half surrogate pairs. Raises ValueError when it is no JSON."""
    return _LONE_SURROGATE.sub("\ufffd", json.dumps(loads(data), ensure_ascii=False)).encode()
