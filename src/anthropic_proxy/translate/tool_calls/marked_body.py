"""The text of a candidate call up to its end marker."""

import re

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner, skip

_SPACE = re.compile(r"\s*")
# The function name before its arguments, or a part of it: `<function=name>{...}`.
_BEFORE_DOCUMENT = re.compile(r"\s*+(?:[^\s>{\[]++(?:>\s*+|\Z))?+")


class MarkedBody:
    """A body with an end marker. Markers in strings of a JSON document do not end the body."""

    def __init__(
        self, beginning: str, end_markers: tuple[str, ...], document_marker: str | None
    ) -> None:
        """Create a body that starts with `beginning`.

        Args:
            end_markers: the spellings of the end marker.
            document_marker: precedes the JSON document; if None, at most a name precedes it.
        """
        self._end_marker = re.compile("|".join(map(re.escape, end_markers)))
        self._longest = max(map(len, end_markers))
        self._document = _BodyDocument(document_marker)
        # The end of the text so far, which may be the beginning of the end marker. It is not yet
        # part of `_document`.
        self._held = beginning

    @property
    def is_partial_document(self) -> bool:
        """True if the body is an incomplete JSON document."""
        return self._document.is_partial

    def read(self, text: str, pos: int) -> tuple[int, bool]:
        """Read text[pos:] up to an end marker.

        Return the end position, and whether the marker ends the body.
        """
        marker = self._find_marker(text, pos)
        if marker is None:
            self._add(text[pos:], self._longest - 1)
            return len(text), False
        start, end = marker
        self._add(text[pos:end], end - start)
        if self._document.is_in_string:
            # The marker is part of the arguments.
            self._add("", 0)
            return end, False
        return end, True

    def close(self) -> None:
        """Add the held text to the document at the end of the response."""
        self._add("", 0)

    def _find_marker(self, text: str, pos: int) -> tuple[int, int] | None:
        """Return the start and the end of the first end marker in text[pos:], or None.

        The marker may start in the held text; then the start is less than `pos`.
        """
        seam = self._held[1 - self._longest :]
        match = self._end_marker.search(seam + text[pos : pos + self._longest - 1])
        offset = pos - len(seam)
        if match is None:
            match = self._end_marker.search(text, pos)
            offset = 0
        return None if match is None else (match.start() + offset, match.end() + offset)

    def _add(self, text: str, held_length: int) -> None:
        """Add the text to the document, except its last `held_length` characters."""
        text = self._held + text
        size = max(len(text) - held_length, 0)
        self._document.feed(text[:size])
        self._held = text[size:]


class _BodyDocument:
    """The JSON document in a body, if any. A function name or the marker may precede it."""

    def __init__(self, marker: str | None) -> None:
        self._marker = marker
        # Set at the start of the document.
        self._scanner: JsonScanner | None = None
        # The text before the document; None if the document has started or does not exist.
        self._before: str | None = ""

    @property
    def is_in_string(self) -> bool:
        """True if the body is valid JSON so far, and ends within a string."""
        return self._scanner is not None and self._scanner.is_valid and self._scanner.is_in_string

    @property
    def is_partial(self) -> bool:
        """True if the body is an incomplete JSON document."""
        return self._scanner is not None and not self._scanner.is_complete

    def feed(self, text: str) -> None:
        if self._scanner is not None:
            if self._scanner.is_valid:
                self._scanner.feed(text)
        elif self._before is not None:
            self._find_document(self._before, text)

    def _find_document(self, before: str, text: str) -> None:
        if text.isspace() and before[-1:].isspace():
            # More white space changes nothing. If it were joined, the cost would be quadratic.
            return
        text = before + text
        start = self._find_start(text)
        if start == len(text):
            self._before = text
            return
        self._before = None
        if text[start] in "{[":
            self._scanner = JsonScanner()
            self._scanner.feed(text[start:])

    def _find_start(self, text: str) -> int:
        """Return the start of the document, or the length of `text` if more text is needed."""
        if self._marker is None:
            return skip(_BEFORE_DOCUMENT, text, 0)
        index = text.find(self._marker)
        return len(text) if index < 0 else skip(_SPACE, text, index + len(self._marker))
