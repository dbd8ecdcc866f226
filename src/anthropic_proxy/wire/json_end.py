"""Find the end of a JSON document whose bytes arrive in pieces.

Some servers keep the connection open after a complete response. The end of its document shows that
nothing else belongs to it.
"""

from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.payloads import is_json, strip_leading

# Members that only complete responses have: those of the Messages API and the Responses API, and
# errors.
_WHOLE_MEMBERS = ("content", "output", "error")


class JsonEndFinder:
    """Finds the end of a body that is an object or a list. Its time is linear in the bytes."""

    def __init__(self) -> None:
        # None until the first byte that is not white space.
        self._is_json: bool | None = None
        self._depth = 0
        self._in_string = False
        # A backslash at the end of the last piece, which escapes the next byte.
        self._backslash = b""

    def feed(self, data: bytes) -> bool:
        """Return whether the body so far ends with a complete document."""
        if self._is_json is None:
            data = strip_leading(data)
            self._is_json = is_json(data) if data else None
        if not self._is_json:
            return False
        # Without escapes, each quotation mark starts or ends a string.
        text = (self._backslash + data).replace(b"\\\\", b"")
        self._backslash = b"\\" if text.endswith(b"\\") else b""
        parts = text.replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        has_odd_quotes = len(parts) % 2 == 0
        self._in_string ^= has_odd_quotes
        self._depth += outside.count(b"{") + outside.count(b"[")
        self._depth -= outside.count(b"}") + outside.count(b"]")
        return self._depth <= 0 and not self._in_string


def is_whole_response(body: bytes) -> bool:
    """Return whether a document is a complete response, and not a line of JSON Lines."""
    parsed = loads_object(body)
    if parsed is None:
        return False
    return any(parsed.get(name) for name in _WHOLE_MEMBERS) or _has_message(parsed)


def _has_message(response: JsonObject) -> bool:
    """Return whether a Chat Completions response has a complete message."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    return bool(choices[0].get("message")) and not choices[0].get("delta")
