"""Reduce the text of a structured response to its JSON document.

The SDKs parse every text block of such an answer, and fail at a fence or a friendly word; upstreams that don't enforce the
schema send both. A document at the beginning, fenced or not, goes out as it comes, and what follows it is dropped. Where
the answer begins with anything else it waits for its end, and the longest document in it is taken. A text without any is
given as it is: the client then sees what the model said.
"""

import re
from itertools import islice

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import InvalidJsonError, loads_first

# The language of a code fence is a short word.
_OPENING = re.compile(r"\s*+(?:```\w{0,30}+\s*+)?+(?=[{\[])")
_BEGINNING = re.compile(r"\s*+(?:```\w{0,30}+\s*+|`{1,3}+)?+")
_BRACKET = re.compile(r"[{\[]")
# Brackets in a text that are tried for the beginning of a document.
_MAX_TRIES = 50


class JsonTextFilter:
    """Filters text that arrives in pieces; the output adds up to the document."""

    def __init__(self) -> None:
        self._buffer: list[str] = []
        self._waits_for_end = False
        self._scanner: JsonScanner | None = None

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        if self._scanner is not None:
            return self._feed_document(self._scanner, piece)
        self._buffer.append(piece)
        # Models that must write JSON may write white space for ever: it decides nothing, and is not looked at again.
        if self._waits_for_end or piece.isspace():
            return ""
        text = "".join(self._buffer)
        opening = _OPENING.match(text)
        if opening is not None:
            self._scanner, self._buffer = JsonScanner(), []
            return self._feed_document(self._scanner, text[opening.end() :])
        self._waits_for_end = _BEGINNING.fullmatch(text) is None
        self._buffer = [text]
        return ""

    def close(self) -> str:
        """Return the rest at the end of the text."""
        text, self._buffer = "".join(self._buffer), []
        return text.strip() if _BEGINNING.fullmatch(text) else _find_longest_document(text)

    def _feed_document(self, scanner: JsonScanner, piece: str) -> str:
        """Return the part of `piece` that belongs to the document: nothing after its end, all of it where it is invalid."""
        if not scanner.is_valid:
            return "" if scanner.is_complete else piece
        was_complete, end = scanner.is_complete, scanner.feed(piece)
        if was_complete:
            return ""
        return piece[:end].rstrip() if scanner.is_complete else piece


def _find_longest_document(text: str) -> str:
    """Return the longest object or array within `text`; all of `text` without one.

    The search ends once as many characters were read in vain as the text has.
    """
    longest, min_start, wasted = text, 0, 0
    for start in (bracket.start() for bracket in islice(_BRACKET.finditer(text), _MAX_TRIES)):
        if start < min_start or wasted > len(text):
            continue
        try:
            _, end = loads_first(text, start)
        except InvalidJsonError as error:
            wasted += error.end - start
            continue
        if not min_start or end - start > len(longest):
            longest, min_start = text[start:end], end
    return longest
