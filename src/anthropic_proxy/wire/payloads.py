"""Read the JSON in the data of server-sent events, and in response bodies of unknown format.

Some servers and gateways send more than JSON objects in `data:` lines: keep-alives, comments, an
end mark with white space, or text that is not valid UTF-8.
"""

import re
from enum import Enum
from typing import Any

from anthropic_proxy.wire.json_codec import (
    MAX_RECEIVED_VALUES,
    JsonObject,
    has_more_values,
    loads_received,
)
from anthropic_proxy.wire.sse import DONE

# Bytes before the first line of a body: white space, which some servers send while the model works
# (OpenRouter), and a byte order mark.
_LEADING = b" \t\r\n\xef\xbb\xbf"

# Longer data is no end mark and no keep-alive.
_MAX_MARK_BYTES = 64
_DONE_MARK = re.compile(rb'\s*(?:data:\s*)?"?\[DONE\]"?\s*', re.IGNORECASE)

# Data without content: a comment (`: OPENROUTER PROCESSING`, mnfst/llm-gateway#2053), an empty
# value, or a keep-alive, whose text may be quoted. Other words may be text of the response or of an
# error.
_COMMENT = re.compile(rb"\s*:")
_KEEP_ALIVE = re.compile(
    rb'\s*("?)(?:(?:ping|pong|heartbeat|keep[ _-]?alive|(?:openrouter )?processing|still working)'
    rb"[.!]*"
    # JSON values without content
    rb"|null|true"
    # the time in seconds or milliseconds
    rb"|1\d{9}(?:\d{3}|\.\d+)?"
    rb")?\1\s*",
    re.IGNORECASE,
)

# Gateways that wrap the lines of another stream repeat the name of the field.
_REPEATED_FIELD = re.compile(rb"\s*data:")


class BodyFormat(Enum):
    """The format of the body of a response."""

    EVENTS = "server-sent events"
    JSON = "JSON"
    # HTML or XML
    MARKUP = "markup"


class InvalidPayloadError(ValueError):
    """The data contains neither JSON objects nor a keep-alive."""


def is_done(payload: bytes) -> bool:
    """Return whether the data of an event marks the end of the stream."""
    if payload == DONE:
        return True
    return len(payload) <= _MAX_MARK_BYTES and _DONE_MARK.fullmatch(payload) is not None


def parse_payload(payload: bytes) -> list[JsonObject]:
    """Return the objects in the data of an event; none for a keep-alive.

    Raises InvalidPayloadError.
    """
    objects = _parse_objects(payload)
    if objects is not None:
        return objects
    if _is_keep_alive(payload):
        return []
    repeated = _REPEATED_FIELD.match(payload)
    if repeated is not None:
        objects = _parse_objects(payload[repeated.end() :])
    if objects is None:
        raise InvalidPayloadError
    return objects


def detect_format(beginning: bytes) -> BodyFormat | None:
    """Return the format of a body from its first bytes; None if they are only white space.

    The content type is not sufficient: some servers send a wrong one with a correct body.
    """
    beginning = strip_leading(beginning)
    if not beginning:
        return None
    if is_json(beginning):
        return BodyFormat.JSON
    return BodyFormat.MARKUP if beginning.startswith(b"<") else BodyFormat.EVENTS


def strip_leading(body: bytes) -> bytes:
    """Return the beginning of a body without white space and byte order mark."""
    return body.lstrip(_LEADING)


def is_json(body: bytes) -> bool:
    """Return whether a body, or its beginning, is JSON. It begins with its first character.

    No line of server-sent events begins like JSON.
    """
    return body.startswith((b"{", b"["))


def parse_json_body(body: bytes) -> list[JsonObject] | None:
    """Return the objects in a JSON body; None if it contains anything else.

    The body is an object, a list of objects (Gemini), or has an object in each line (JSON Lines).
    """
    objects = _parse_objects(body)
    if objects is not None:
        return objects
    lines = body.count(b"\n")
    if lines > MAX_RECEIVED_VALUES or has_more_values(body, MAX_RECEIVED_VALUES):
        return None
    objects = []
    for line in body.splitlines():
        line_objects = _parse_objects(line) if line.strip() else []
        if line_objects is None:
            return None
        objects += line_objects
    return objects


def _parse_objects(data: bytes) -> list[JsonObject] | None:
    """Return a JSON object, or the objects in a JSON list; None for other data."""
    value = _parse_json(data)
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    return None


def _parse_json(data: bytes) -> Any:
    """Return the JSON value, or None for invalid JSON. Invalid UTF-8 becomes U+FFFD."""
    try:
        return loads_received(data)
    except ValueError:
        pass
    try:
        data.decode()
    except UnicodeDecodeError:
        try:
            return loads_received(data.decode("utf-8", "replace").encode())
        except ValueError:
            return None
    return None


def _is_keep_alive(payload: bytes) -> bool:
    """Return whether data has no content. Data that may be a part of an object has content."""
    if _COMMENT.match(payload):
        return True
    return len(payload) <= _MAX_MARK_BYTES and _KEEP_ALIVE.fullmatch(payload) is not None
