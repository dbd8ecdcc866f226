"""Repair JSON that a model wrote, where only one meaning is possible.

The text is read as tokens of a wider language than JSON, and these are written again as JSON: single quotes, Python's
literals, keys without quotes, raw control characters in strings, comments, trailing commas, a code fence around it all, and
brackets missing at the very end. What comes out is then held to JSON's own grammar. So nothing is guessed, left out or made
up: a repair is either plain or refused. A text that ends within a string, in a number or with a comma may have been going
on: servers say `tool_calls` of an answer that was cut, too. Libraries for this (json-repair, json5) go further and guess,
and what they drop runs as a tool's input.

The text is read token by token, so a long text of short tokens would block the server: one of more than `_MAX_TOKENS` is
refused. A long string is one token.
"""

import re
from collections.abc import Iterator

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads

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
_IN_STRING = re.compile(r"""\\.|["\x00-\x1f]""", re.DOTALL)


class _AmbiguousError(Exception):
    """The text has no meaning, or more than one."""


def repair_json(text: str) -> JsonObject | None:
    """Return the object that `text` stands for; None when that is not certain."""
    try:
        # Spaces keep tokens apart: 1 2 is not 12.
        document = " ".join(_close_brackets(_drop_trailing_commas(_tokenize(_strip_fence(text)))))
    except _AmbiguousError:
        return None
    scanner = JsonScanner()
    scanner.feed(document)
    value = loads(document, allow_nan=False) if scanner.is_valid and scanner.is_complete else None
    return value if isinstance(value, dict) else None


def _strip_fence(text: str) -> str:
    text = text.strip()
    fence = _FENCE.match(text)
    return text[fence.end() :].removesuffix("```") if fence else text


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
                yield _quote(token[1:-1])
            case "key":
                yield f'"{token}"'
            case "word":
                yield _WORDS.get(token, token)
            case "mark":
                yield token


def _quote(text: str) -> str:
    return f'"{_IN_STRING.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    if match[0] == "\\'":
        return "'"
    # Other escapes stay as they are: the grammar refuses those that JSON doesn't have.
    return match[0] if match[0][0] == "\\" else dumps(match[0]).decode()[1:-1]


def _drop_trailing_commas(tokens: Iterator[str]) -> Iterator[str]:
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
    """Yield the tokens, and then the missing closing brackets."""
    closers: list[str] = []
    token = ""
    for token in tokens:
        if token in _CLOSERS:
            closers.append(_CLOSERS[token])
        elif closers and token == closers[-1]:
            closers.pop()
        yield token
    if closers and token[-1:].isdigit():
        raise _AmbiguousError
    yield from reversed(closers)
