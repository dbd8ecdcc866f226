"""Text after the complete arguments of a call.

Models and servers add closing brackets, code fences, closing tags and special tokens of their
format there. Some repeat the arguments. Other documents are arguments of further calls to the same
tool: models write parallel calls in this way, and gateways join their arguments
(github.com/BerriAI/litellm/issues/20543 and 40582).
"""

import re

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import dumps, loads

_GAP = re.compile(r"[ \t\r\n}\]]*+")
_MAX_MARKER_LENGTH = 100
_MARKER = re.compile(r"```|</\w++>|<\|[^<>|]++\|>|<｜[^<>｜]++｜>")
_MARKER_BEGINNING = re.compile(r"`{1,2}|<(?:/\w*+|\|[^<>|]*+\|?|｜[^<>｜]*+｜?)?")
# The maximum number of markers that are removed after broken arguments.
_MAX_FINAL_MARKERS = 4

# The block and the events of a call cost much more than its few characters.
_MAX_DOCUMENTS = 100


class ArgumentsTrailer:
    """Reads the text after a complete object, piece by piece."""

    def __init__(self, document: str) -> None:
        """Create a trailer of the object `document`."""
        # True if the text cannot be ignored, and does not start a document.
        self.is_harmful = False
        self._last_document = document
        # Complete documents, each of which differs from the one before it.
        self._documents: list[str] = []
        self._document_count = 0
        # The beginning of a marker.
        self._held = ""
        # Set within a document.
        self._scanner: JsonScanner | None = None
        self._pieces: list[str] = []

    @property
    def is_settled(self) -> bool:
        """True if the text so far is complete, and can be ignored."""
        return not self.is_harmful and not self._held and self._scanner is None

    @property
    def may_be_harmful(self) -> bool:
        """True if the text cannot be ignored, or may turn out to be such text."""
        return self.is_harmful or bool(self._held)

    def feed(self, piece: str) -> None:
        text, self._held = self._held + piece, ""
        pos = 0
        while pos < len(text) and not self.is_harmful:
            pos = self._read_gap(text, pos) if self._scanner is None else self._scan(text, pos)

    def take_documents(self) -> list[str]:
        """Return the further documents since the last call, or none if the text is harmful."""
        documents, self._documents = self._documents, []
        return [] if self.is_harmful else documents

    def close(self) -> list[str]:
        """Return the incomplete document at the end of the response, and drop half of a marker."""
        pieces, self._pieces, self._scanner, self._held = self._pieces, [], None, ""
        return [] if self.is_harmful or not pieces else ["".join(pieces)]

    def _read_gap(self, text: str, pos: int) -> int:
        gap = _GAP.match(text, pos)
        pos = gap.end() if gap else pos
        if pos == len(text):
            return pos
        if text[pos] == "{" and self._document_count < _MAX_DOCUMENTS:
            self._scanner = JsonScanner()
            return pos
        end = pos + _MAX_MARKER_LENGTH
        marker = _MARKER.match(text, pos, end)
        if marker is not None:
            return marker.end()
        if len(text) < end and _MARKER_BEGINNING.fullmatch(text, pos):
            self._held = text[pos:]
            return len(text)
        self.is_harmful = True
        return pos

    def _scan(self, text: str, pos: int) -> int:
        if self._scanner is None or not self._scanner.is_valid:
            # The document is broken, so its end is unknown.
            self._pieces.append(text[pos:])
            return len(text)
        end = self._scanner.feed(text, pos)
        self._pieces.append(text[pos:end])
        if self._scanner.is_complete:
            self._end_document("".join(self._pieces))
        return end

    def _end_document(self, document: str) -> None:
        self._scanner, self._pieces = None, []
        if not _are_equal(document, self._last_document):
            self._documents.append(document)
            self._document_count += 1
        self._last_document = document


def _are_equal(first: str, second: str) -> bool:
    if first.strip() == second.strip():
        return True
    try:
        return dumps(loads(first)) == dumps(loads(second))
    except ValueError:
        return False


def strip_markers(text: str) -> str:
    """Return the text without special tokens and white space at its end."""
    for _ in range(_MAX_FINAL_MARKERS):
        text = text.rstrip()
        start = text.rfind("<", max(len(text) - _MAX_MARKER_LENGTH, 0))
        if start < 0 or not _MARKER.fullmatch(text, start):
            break
        text = text[:start]
    return text.rstrip()
