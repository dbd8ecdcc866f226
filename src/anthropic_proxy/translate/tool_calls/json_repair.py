"""Broken JSON that a model wrote -> the object that it certainly meant, or nothing.

The text is read as tokens of a wider language than JSON, and these are written again as JSON: single quotes, Python's
literals, keys without quotes, raw control characters in strings, comments, trailing commas, a code fence around it all, and
brackets missing at the very end. What comes out is then held to JSON's own grammar. So nothing is guessed, left out or made
up: a repair is either plain or refused. A text that ends within a string, in a number or with a comma may have been going
on: servers say `tool_calls` of an answer that was cut, too. Libraries for this (json-repair, json5) go further and guess,
and what they drop runs as a tool's input.

The text is read token by token, so a long text of short tokens would block the server: one of more than `_MOST_TOKENS` is
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
_MOST_TOKENS = 20_000
_IN_STRING = re.compile(r"""\\.|["\x00-\x1f]""", re.DOTALL)


class _UnsureError(Exception):
    """There is more than one way to read it, or none."""


def repaired(text: str) -> JsonObject | None:
    """The object that `text` was meant to be; None when that is not certain."""
    try:
        # Spaces keep apart what stood apart: 1 2 is not 12.
        written = " ".join(_closed(_without_trailing_commas(_tokens(_unfenced(text)))))
    except _UnsureError:
        return None
    scanner = JsonScanner()
    scanner.feed(written)
    value = loads(written, allow_nan=False) if scanner.valid and scanner.whole else None
    return value if isinstance(value, dict) else None


def _unfenced(text: str) -> str:
    text = text.strip()
    fence = _FENCE.match(text)
    return text[fence.end() :].removesuffix("```") if fence else text


def _tokens(text: str) -> Iterator[str]:
    """The JSON forms of the tokens of `text`."""
    at = tokens = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        tokens += 1
        if found is None or tokens > _MOST_TOKENS:
            raise _UnsureError
        at = found.end()
        token = found[0]
        match found.lastgroup:
            case "string":
                yield _quoted(token[1:-1])
            case "key":
                yield f'"{token}"'
            case "word":
                yield _WORDS.get(token, token)
            case "mark":
                yield token


def _quoted(text: str) -> str:
    return f'"{_IN_STRING.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    if found[0] == "\\'":
        return "'"
    # Other escapes stay as they are: the grammar refuses those that JSON doesn't have.
    return found[0] if found[0][0] == "\\" else dumps(found[0]).decode()[1:-1]


def _without_trailing_commas(tokens: Iterator[str]) -> Iterator[str]:
    comma = False
    for each in tokens:
        if comma and each not in ("}", "]"):
            yield ","
        comma = each == ","
        if not comma:
            yield each
    if comma:
        raise _UnsureError


def _closed(tokens: Iterator[str]) -> Iterator[str]:
    """The tokens, and the brackets that are missing behind them."""
    still_open: list[str] = []
    token = ""
    for token in tokens:
        if token in _CLOSERS:
            still_open.append(_CLOSERS[token])
        elif still_open and token == still_open[-1]:
            still_open.pop()
        yield token
    if still_open and token[-1:].isdigit():
        raise _UnsureError
    yield from reversed(still_open)
