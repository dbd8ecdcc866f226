"""Parser for tool calls in the text of a response.

Weak models write calls as text, and so do models behind servers without the right parser. Clients
would show the text, and no tool would run. `TextCallParser` splits the text of one response, which
arrives in arbitrary pieces, into text and calls. text_formats.py has a table of the formats.

States of `TextCallParser`:

    START  Waits for the first character that is not white space: a bracket may start a bare call.
    TEXT   Searches for an opener outside code blocks. Holds a possible beginning of an opener.
    CODE   Reads code that starts with an opener: inline code up to the next backtick or empty line,
           an indented line up to its end, and a text after a tag such as `<pre>` up to its end tag
           (within a line, also up to an empty line).
    CALL   Reads a candidate, the text after an opener, until it is either calls or text.
    GAP    Drops the white space after a call, and markers that belong to no other text.

    START -> TEXT | CALL    TEXT -> CALL | CODE    CODE -> TEXT
    CALL -> GAP (calls) | TEXT (text)    GAP -> TEXT

Invariants:

- The texts, the source text of the calls and the white space around the calls make up the input.
- The parts do not depend on the boundaries of pieces.
- The parser reads forward. Only the opening of a rejected candidate is read again, and a JSON
  document is scanned once, even if its strings contain end markers. So the cost is linear in the
  length of the text. The number of offered tools adds only the cost of sorting their names.

The parser finds at most `MAX_CALLS` calls in a response and treats the rest as text, because the
block and the events of each call cost much more than parsing its few characters.

The position distinguishes calls from examples of calls: a bare object must be the complete
response, a code block must be at its end, and markers in other code blocks and in lines that are
indented like code are ignored, and so are markers after tags such as `<pre>` and `<example>`.
"""

import re
from dataclasses import replace
from enum import Enum, auto

from anthropic_proxy.translate.tool_calls.call_format import TextCallFormat
from anthropic_proxy.translate.tool_calls.candidate import Candidate
from anthropic_proxy.translate.tool_calls.code_examples import (
    EXAMPLE_OPENERS,
    INLINE_END,
    LINE_END,
    find_example_end,
)
from anthropic_proxy.translate.tool_calls.json_scanner import skip
from anthropic_proxy.translate.tool_calls.markdown_position import (
    FENCE_CHARACTERS,
    FENCE_MARK,
    MarkdownPosition,
    is_fence_mark,
)
from anthropic_proxy.translate.tool_calls.markers import Markers
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools, ToolSchemas
from anthropic_proxy.translate.tool_calls.text_calls import TextCall, TextCalls
from anthropic_proxy.translate.tool_calls.text_formats import (
    BARE_FORMAT,
    FENCE_FORMAT,
    FORMATS,
    STRAY_MARKERS,
    STRIPPED_HARMONY_FORMAT,
)

TextParts = list[str | TextCall]

_BACKTICKS = "```"
_BY_OPENER = {form.opener: form for form in FORMATS}
_OPENERS = Markers((*_BY_OPENER, *EXAMPLE_OPENERS))
_OPENER = re.compile(f"{_OPENERS.pattern.pattern}|{FENCE_MARK.pattern}")
# Text without a match contains no beginning of an opener, and no white space before one.
_SUSPECT = re.compile(r"[<\[`~]|[\s\]]\Z")
# Formats without an opener, by the first character of the response.
_BY_FIRST_CHARACTER = {
    **dict.fromkeys("{[", BARE_FORMAT),
    "c": STRIPPED_HARMONY_FORMAT,
}

MAX_CALLS = 1_000

# The maximum length of white space that is dropped before a call, and of backticks that are held
# together. Longer runs are text.
_MAX_RUN = 100

_STRAY_MARKERS = Markers(STRAY_MARKERS)
# The maximum number of stray markers that are dropped after a call.
_MAX_STRAY_MARKERS = 2

_SPACE = re.compile(r"\s*")


class _State(Enum):
    START = auto()
    TEXT = auto()
    CODE = auto()
    CALL = auto()
    GAP = auto()


class TextCallParser:
    """Splits text that arrives in pieces into text and calls."""

    def __init__(self, tools: ToolSchemas) -> None:
        """Create a parser for calls to `tools`. Without tools, all text passes unchanged."""
        self._tools = OfferedTools(tools)
        self._has_tools = bool(tools)
        self._state = _State.START
        # Text that needs more text before it can be read.
        self._unread: list[str] = []
        # The text that `feed` reads, and the current position.
        self._text = ""
        self._pos = 0
        # The parts that `feed` returns.
        self._parts: TextParts = []
        # Set in the state CALL.
        self._candidate: Candidate | None = None
        # The end of the code in the state CODE.
        self._code_end = INLINE_END
        # The number of stray markers that may still be dropped in the state GAP.
        self._strays_left = 0
        self._calls_left = MAX_CALLS
        # The end of the returned text.
        self._position = MarkdownPosition()

    def feed(self, piece: str) -> TextParts:
        """Return the parts that are complete after `piece`."""
        if piece and self._is_plain(piece):
            self._position.at_line_start = False
            return [piece]
        self._unread.append(piece)
        if self._state is _State.START and piece.isspace():
            # A response may start with endless white space, so it is joined only once.
            return []
        self._text, self._pos = "".join(self._unread), 0
        self._unread = []
        while self._pos < len(self._text) and self._step():
            pass
        if self._pos < len(self._text):
            self._unread.append(self._text[self._pos :])
        self._text, self._pos = "", 0
        return self._take_parts()

    @property
    def mark(self) -> re.Pattern[str] | None:
        """The pattern of text that may contain the start of a call; None without tools."""
        return _SUSPECT if self._has_tools else None

    @property
    def is_idle(self) -> bool:
        """True if text that `mark` does not match passes unchanged and changes no state."""
        return not self._has_tools or (self._is_reading_text() and not self._position.at_line_start)

    def _is_plain(self, piece: str) -> bool:
        """Return whether `piece` is only text."""
        return not self._has_tools or (self._is_reading_text() and not _SUSPECT.search(piece))

    def _is_reading_text(self) -> bool:
        """Return whether the parser is in the state TEXT without held text."""
        return self._state is _State.TEXT and self._candidate is None and not self._unread

    def close(self, *, truncated: bool) -> TextParts:
        """Return the held parts at the end of the response.

        If a token limit `truncated` the response, a call may be incomplete.
        """
        if self._candidate is not None:
            calls = self._candidate.close(truncated=truncated)
            if self._are_acceptable(calls):
                self._candidate = None
                return [*calls]
        return self.stop()

    def stop(self) -> TextParts:
        """Return the held text, and stop parsing: later text passes unchanged."""
        text = "".join(self._unread) if self._candidate is None else self._candidate.text
        self._has_tools = False
        self._candidate, self._unread = None, []
        return [text] if text else []

    # States. Each method reads from `_pos`, and returns False if it needs more text.

    def _step(self) -> bool:
        if self._candidate is not None:
            return self._read_call(self._candidate)
        if self._state is _State.TEXT:
            return self._read_text()
        if self._state is _State.CODE:
            return self._read_code()
        if self._state is _State.GAP:
            return self._read_gap()
        return self._read_start()

    def _read_start(self) -> bool:
        first = skip(_SPACE, self._text, self._pos)
        call_format = _BY_FIRST_CHARACTER.get(self._text[first : first + 1])
        if call_format is not None:
            self._start_candidate(call_format, self._pos, first)
        else:
            self._state = _State.TEXT
        return True

    def _read_text(self) -> bool:
        match = self._find_opener()
        if match is None:
            end = len(self._text) - self._measure_held_text()
            self._emit(self._text[self._pos : end])
            self._pos = end
            return False
        opener, position = match
        code_end = self._find_code_end(opener, position)
        if code_end is not None:
            self._emit(self._text[self._pos : opener.end()])
            self._state, self._pos = _State.CODE, opener.end()
            self._code_end = code_end
            return True
        lead = opener.start() - _measure_run(self._text, self._pos, opener.start(), None)
        self._emit(self._text[self._pos : lead])
        self._start_candidate(_BY_OPENER[opener[0]], lead, opener.end())
        return True

    def _read_code(self) -> bool:
        end = self._code_end.pattern.search(self._text, self._pos)
        if end is not None:
            self._emit_code(end.start())
            self._state = _State.TEXT
            return True
        held = self._code_end.measure_beginning(self._text, self._pos)
        self._emit_code(len(self._text) - held)
        return False

    def _read_call(self, candidate: Candidate) -> bool:
        self._pos = candidate.read(self._text, self._pos)
        if candidate.is_decided:
            self._candidate = None
            if self._are_acceptable(candidate.calls):
                self._accept(candidate.calls)
            else:
                self._reject(candidate)
        return True

    def _read_gap(self) -> bool:
        self._pos = skip(_SPACE, self._text, self._pos)
        if self._pos == len(self._text):
            return False
        if self._strays_left:
            marker = _STRAY_MARKERS.pattern.match(self._text, self._pos)
            if marker is not None:
                self._pos = marker.end()
                self._strays_left -= 1
                return True
            if _STRAY_MARKERS.may_start(self._text, self._pos):
                return False
        self._state = _State.TEXT
        return True

    # Transitions.

    def _start_candidate(self, call_format: TextCallFormat, lead: int, body: int) -> None:
        """Start a candidate; text[lead:body] is its opener and the white space before it."""
        self._candidate = Candidate(call_format, self._text[lead:body], self._tools)
        self._state = _State.CALL
        self._pos = body

    def _are_acceptable(self, calls: TextCalls) -> bool:
        return 0 < len(calls) <= self._calls_left

    def _accept(self, calls: TextCalls) -> None:
        self._parts += calls
        self._calls_left -= len(calls)
        self._state = _State.GAP
        self._strays_left = _MAX_STRAY_MARKERS
        self._position.at_line_start, self._position.indent = True, 0

    def _reject(self, candidate: Candidate) -> None:
        """Emit the candidate as text. Its opening is read again for other openers."""
        self._state = _State.TEXT
        self._emit(candidate.rejected_text)
        if candidate.unread:
            self._text = candidate.unread + self._text[self._pos :]
            self._pos = 0

    # Returned text and its position in Markdown.

    def _emit(self, text: str) -> None:
        """Add text to the parts, and move the position."""
        if text:
            self._parts.append(text)
            self._position.read(text)

    def _emit_code(self, end: int) -> None:
        """Add the text up to `end` to the parts. It opens and closes no code block."""
        if end > self._pos:
            self._parts.append(self._text[self._pos : end])
            self._position.move(self._text, self._pos, end)
        self._pos = end

    def _find_opener(self) -> tuple[re.Match[str], MarkdownPosition] | None:
        """Return the next opener outside fenced code, and its position.

        A code fence must be at the line start.
        """
        position = replace(self._position)
        pos = self._pos
        for match in _OPENER.finditer(self._text, pos):
            position.move(self._text, pos, match.start())
            pos = match.start()
            is_fence = is_fence_mark(match[0])
            if match[0] in EXAMPLE_OPENERS and not position.fence:
                return match, position
            call_format = _BY_OPENER.get(match[0])
            if call_format is not None and not position.fence:
                must_start_line = is_fence or call_format.must_start_line
                if position.at_line_start or not must_start_line:
                    return match, position
            if is_fence:
                position.pass_mark(match[0].removesuffix("json"))
                pos = match.end()
        return None

    def _find_code_end(self, opener: re.Match[str], position: MarkdownPosition) -> Markers | None:
        """Return the end of the code that starts with an opener; None if it starts a call."""
        if position.is_indented:
            return LINE_END
        if opener[0] != FENCE_FORMAT.opener and self._starts_inline_code(opener.start()):
            return INLINE_END
        return find_example_end(opener[0], starts_line=position.at_line_start)

    def _starts_inline_code(self, pos: int) -> bool:
        """Return whether the text before text[pos] ends with the start of inline code."""
        size = _measure_run(self._text, self._pos, pos, "`")
        return 0 < size < len(_BACKTICKS)

    def _measure_held_text(self) -> int:
        """Return the length of a possible incomplete opener at the end of the text."""
        end = len(self._text)
        held = _OPENERS.measure_beginning(self._text, self._pos)
        # Fences are held together: their first position determines whether they are a fence.
        held += _measure_run(self._text, self._pos, end - held, FENCE_CHARACTERS)
        return held + _measure_run(self._text, self._pos, end - held, None)

    def _take_parts(self) -> TextParts:
        """Return the parts, with adjacent texts joined."""
        joined: TextParts = []
        texts: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            if texts:
                joined.append("".join(texts))
                texts = []
            joined.append(part)
        if texts:
            joined.append("".join(texts))
        self._parts = []
        return joined


def find_final_calls(text: str, tools: ToolSchemas) -> TextCalls:
    """Return the calls at the end of a complete text."""
    parser = TextCallParser(tools)
    calls: TextCalls = []
    for part in [*parser.feed(text), *parser.close(truncated=False)]:
        if isinstance(part, TextCall):
            calls.append(part)
        else:
            calls = []
    return calls


def _measure_run(text: str, start: int, end: int, characters: str | None) -> int:
    """Return the length of the run of `characters` at the end of text[start:end].

    The result is at most `_MAX_RUN`. None means white space.
    """
    run = text[max(start, end - _MAX_RUN) : end]
    return len(run) - len(run.rstrip(characters))
