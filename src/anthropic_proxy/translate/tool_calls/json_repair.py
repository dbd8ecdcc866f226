"""Parse and repair JSON that a model generated, if only one meaning is possible.

The text is split into tokens of a superset of JSON, and each token is converted to JSON. The
superset has single quotes, Python literals, keys without quotes, raw control characters in strings,
comments, trailing commas and a code fence around the document, and closing brackets at the end may
be missing. The result must match the grammar of JSON. So no content is guessed, omitted or
invented. A text that ends within a string, in a number or with a comma is rejected, because it may
be truncated: servers report `tool_calls` for truncated responses too.

Libraries for this purpose (json-repair, json5) guess, so a tool could run with missing content.
`ast.literal_eval` supports neither comments nor a mix of JSON and Python.

Each token needs a separate match, so long texts of short tokens would block the server: texts with
more than `_MAX_TOKENS` tokens are rejected. A long string is one token.
"""

import re
from collections.abc import Iterator
from typing import Any

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads, repair_json_surrogates

# The member of the arguments whose value is text that could not be repaired.
INVALID_KEY = "INVALID_JSON"

_FENCE = re.compile(r"```\w*[ \t\r]*\n")
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*\n|\#[^\n]*\n|/\*.*?\*/)
    | (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')
    | (?P<mark>[{}\[\]:,])
    | (?P<key>[A-Za-z_$][\w$-]*)(?=\s*:)
    | (?P<word>[\w.+-]+)""",
    re.DOTALL | re.VERBOSE,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_CLOSERS = {"{": "}", "[": "]"}
_MAX_TOKENS = 20_000
# The parts of a string that may need another form in JSON.
_IN_STRING = re.compile(r"""\\.|["\x00-\x1f]""", re.DOTALL)

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class _AmbiguousError(Exception):
    """The text is invalid or ambiguous."""


def parse_arguments(raw: str) -> JsonObject | None:
    """Return the object in an argument string, or None.

    The JSON is repaired if the repair is unambiguous. An empty string gives an empty object. If the
    document is a JSON string, as some small models write it, its content is parsed.
    """
    if not raw.strip():
        return {}
    value = _parse_or_repair(raw)
    if isinstance(value, str):
        value = _parse_or_repair(value)
    if isinstance(value, dict):
        return value
    return None


def _parse_or_repair(text: str) -> Any:
    try:
        if _SURROGATE_ESCAPE.search(text):
            return loads(repair_json_surrogates(text), allow_nan=False)
        return loads(text, allow_nan=False)
    except ValueError:
        return repair_json(text)


def repair_json(text: str, *, may_be_truncated: bool = False) -> JsonObject | None:
    """Return the object that `text` describes, or None if it is invalid or ambiguous.

    In a text that `may_be_truncated`, a closing bracket may not be missing.
    """
    tokens = _drop_trailing_commas(_tokenize(_strip_fence(text)))
    if not may_be_truncated:
        tokens = _close_brackets(tokens)
    try:
        # Spaces separate tokens: 1 2 is not 12.
        document = " ".join(tokens)
    except _AmbiguousError:
        return None
    scanner = JsonScanner()
    scanner.feed(document)
    if not scanner.is_valid or not scanner.is_complete:
        return None
    value = loads(document, allow_nan=False)
    if isinstance(value, dict):
        return value
    return None


def _strip_fence(text: str) -> str:
    text = text.strip()
    fence = _FENCE.match(text)
    if fence is None:
        return text
    return text[fence.end() :].removesuffix("```")


def _tokenize(text: str) -> Iterator[str]:
    """Yield the JSON forms of the tokens of `text`."""
    pos = token_count = 0
    while pos < len(text):
        match = _TOKEN.match(text, pos)
        token_count += 1
        if match is None or token_count > _MAX_TOKENS:
            raise _AmbiguousError
        pos = match.end()
        token = match[0]
        match match.lastgroup:
            case "string":
                escaped = _IN_STRING.sub(_escape, token[1:-1])
                yield f'"{escaped}"'
            case "key":
                yield f'"{token}"'
            case "word":
                yield _WORDS.get(token, token)
            case "mark":
                yield token


def _escape(match: re.Match[str]) -> str:
    characters = match[0]
    if characters == "\\'":
        return "'"
    if characters.startswith("\\"):
        # The final check rejects escape sequences that JSON does not have.
        return characters
    return dumps(characters).decode()[1:-1]


def _drop_trailing_commas(tokens: Iterator[str]) -> Iterator[str]:
    """Yield the tokens without commas before closing brackets."""
    after_comma = False
    for part in tokens:
        if after_comma and part not in ("}", "]"):
            yield ","
        after_comma = part == ","
        if not after_comma:
            yield part
    if after_comma:
        raise _AmbiguousError


def _close_brackets(tokens: Iterator[str]) -> Iterator[str]:
    """Yield the tokens, followed by the missing closing brackets."""
    closers: list[str] = []
    token = ""
    for token in tokens:
        if token in _CLOSERS:
            closers.append(_CLOSERS[token])
        elif closers and token == closers[-1]:
            closers.pop()
        yield token
    if closers and token[-1:].isdigit():
        # The number may be truncated.
        raise _AmbiguousError
    yield from reversed(closers)
