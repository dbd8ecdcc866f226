"""A candidate: text after an opener, until it is either calls or text.

States of `Candidate`:

    OPENING  Reads the first characters, which show whether this is a call to an offered tool.
    BODY     Searches for the end marker outside the strings of a JSON document.
    ENDED    Waits for the end of the response, for formats that are accepted only there.

    OPENING -> BODY | decided    BODY -> ENDED | decided    ENDED -> decided
"""

import re
from enum import Enum, auto

from anthropic_proxy.translate.tool_calls.call_format import TextCallFormat, read_calls, starts_call
from anthropic_proxy.translate.tool_calls.json_scanner import skip
from anthropic_proxy.translate.tool_calls.marked_body import MarkedBody
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools
from anthropic_proxy.translate.tool_calls.text_calls import TextCalls

_SPACE = re.compile(r"\s*")
# The number of characters of an opening that are examined at once. Most candidates need one window.
_OPENING_WINDOW = 32


class _State(Enum):
    OPENING = auto()
    BODY = auto()
    ENDED = auto()


class Candidate:
    """Text after an opener that may be calls."""

    def __init__(self, call_format: TextCallFormat, lead: str, tools: OfferedTools) -> None:
        """Create a candidate. `lead` is the opener and the white space before it."""
        # True if the candidate is known to be calls or text.
        self.is_decided = False
        # The calls; none if the candidate is text.
        self.calls: TextCalls = []
        # The text to read again after a rejection in the state OPENING.
        self.unread = ""
        self._call_format = call_format
        self._lead = lead
        self._tools = tools
        self._state = _State.OPENING
        # The text after the opener.
        self._pieces: list[str] = []
        # The same text in the state OPENING, without white space.
        self._opening_text = ""
        # Set in the state BODY, for formats with an end marker.
        self._body: MarkedBody | None = None

    @property
    def text(self) -> str:
        """The complete text, with the opener and the white space before it."""
        return self._lead + "".join(self._pieces)

    @property
    def rejected_text(self) -> str:
        """The text without the part that is read again."""
        if self._state is _State.OPENING:
            return self._lead
        return self.text

    def read(self, text: str, pos: int) -> int:
        """Read text[pos:] until the candidate is decided, and return the end position."""
        while pos < len(text) and not self.is_decided:
            if self._state is _State.OPENING:
                pos = self._read_opening(text, pos)
            elif self._state is _State.BODY:
                pos = self._read_body(text, pos)
            else:
                pos = self._read_after_end(text, pos)
        return pos

    def close(self, *, truncated: bool) -> TextCalls:
        """Return the calls at the end of the response."""
        if self._state is not _State.BODY:
            return self.calls
        if self._body is not None:
            # The end marker is missing.
            self._body.close()
            if truncated or self._call_format.must_be_last or self._body.is_partial_document:
                return []
        return read_calls(self._call_format, "".join(self._pieces), self._tools)

    # States. Each method reads text[pos:] and returns the end position.

    def _read_opening(self, text: str, pos: int) -> int:
        end = pos
        while end < len(text):
            window = text[end : end + _OPENING_WINDOW]
            end += len(window)
            self._opening_text += "".join(window.split())
            is_call = starts_call(self._call_format, self._opening_text, self._tools)
            if is_call is not None:
                self._leave_opening(is_call=is_call)
                return pos
        self._pieces.append(text[pos:])
        return len(text)

    def _leave_opening(self, *, is_call: bool) -> None:
        beginning = "".join(self._pieces)
        if not is_call:
            self.is_decided = True
            self.unread = beginning
            return
        self._state = _State.BODY
        if self._call_format.ends:
            # The beginning is part of an opening, so it cannot contain an end marker.
            marker = self._call_format.document_marker
            self._body = MarkedBody(beginning, self._call_format.ends, marker)

    def _read_body(self, text: str, pos: int) -> int:
        if self._body is None:
            end, is_ended = len(text), False
        else:
            end, is_ended = self._body.read(text, pos)
        self._pieces.append(text[pos:end])
        if is_ended:
            self._end_body()
        return end

    def _end_body(self) -> None:
        body = "".join(self._pieces)
        end = next(end for end in self._call_format.ends if body.endswith(end))
        body = body.removesuffix(end)
        self.calls = read_calls(self._call_format, body, self._tools)
        if self.calls and self._call_format.must_be_last:
            self._state = _State.ENDED
        else:
            self.is_decided = True

    def _read_after_end(self, text: str, pos: int) -> int:
        end = skip(_SPACE, text, pos)
        if end == len(text):
            self._pieces.append(text[pos:])
            return end
        self.is_decided, self.calls = True, []
        return pos
