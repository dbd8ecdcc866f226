"""The text of an answer that must be one JSON document, and nothing else (structured outputs).

The SDKs parse every text block of such an answer, and fail at a fence or a friendly word; upstreams that don't enforce the
schema send both. A document at the beginning, fenced or not, goes out as it comes, and what follows it is dropped. Where
the answer begins with anything else it waits for its end, and the longest document in it is taken. A text without any is
given as it is: the client then sees what the model said.
"""

import re
from itertools import islice

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import NoDocumentError, loads_first

# The language of a code fence is a short word.
_OPENING = re.compile(r"\s*+(?:```\w{0,30}+\s*+)?+(?=[{\[])")
_BEGINNING = re.compile(r"\s*+(?:```\w{0,30}+\s*+|`{1,3}+)?+")
_BRACKET = re.compile(r"[{\[]")
# Brackets in a text that are tried for the beginning of a document.
_MOST_TRIES = 50


class JsonAnswer:
    """Takes text in pieces; what comes out adds up to the document."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._decided = False
        self._scanner: JsonScanner | None = None

    def feed(self, piece: str) -> str:
        """Text that can go out now."""
        if self._scanner is not None:
            return self._document(self._scanner, piece)
        self._held.append(piece)
        # Models that must write JSON may write white space for ever: it decides nothing, and is not looked at again.
        if self._decided or piece.isspace():
            return ""
        text = "".join(self._held)
        opening = _OPENING.match(text)
        if opening is not None:
            self._scanner, self._held = JsonScanner(), []
            return self._document(self._scanner, text[opening.end() :])
        self._decided = _BEGINNING.fullmatch(text) is None
        self._held = [text]
        return ""

    def close(self) -> str:
        """What is left at the end of the text."""
        text, self._held = "".join(self._held), []
        return text.strip() if _BEGINNING.fullmatch(text) else _longest_document(text)

    def _document(self, scanner: JsonScanner, piece: str) -> str:
        """The document goes on; once it is whole, nothing more does. A broken one goes on as it is."""
        if not scanner.valid:
            return "" if scanner.whole else piece
        before, end = scanner.whole, scanner.feed(piece)
        if before:
            return ""
        return piece[:end].rstrip() if scanner.whole else piece


def _longest_document(text: str) -> str:
    """The longest object or array within `text`; all of it where there is none.

    The search ends once as many characters were read in vain as the text has.
    """
    found, after, in_vain = text, 0, 0
    for start in (bracket.start() for bracket in islice(_BRACKET.finditer(text), _MOST_TRIES)):
        if start < after or in_vain > len(text):
            continue
        try:
            _, end = loads_first(text, start)
        except NoDocumentError as error:
            in_vain += error.end - start
            continue
        if not after or end - start > len(found):
            found, after = text[start:end], end
    return found
