"""Parser for tool calls that a model writes into its text.

Weak models, and servers without the right parser, leave calls in the text; the client would show them, and no tool would
run. `TextCallParser` splits the text of one response, in pieces cut anywhere, into text and calls. The formats are rows of
a table: see text_formats.py.

States of `TextCallParser`, and what each one waits for:

    START  the first character that is not white space: a bracket there may begin a bare call
    TEXT   an opener outside a code block; the end of a piece that may be the beginning of one is held
    CALL   the end of a candidate, the text behind an opener: it is calls, or text after all
    GAP    the next text behind a call: white space, and one closing tag without an opening one, are dropped

    START -> TEXT | CALL     TEXT -> CALL     CALL -> GAP (it was a call) | TEXT (it was not)     GAP -> TEXT

States of `_Candidate`, the text behind one opener:

    OPENING  the few characters that tell whether a call of an offered tool begins here
    BODY     the end marker, outside the strings of a JSON document
    ENDED    the end of the response, for formats that count only there

Invariants:

- The text parts, the calls' own text and the white space around calls add up to the input, to the character.
- What the parts are does not depend on how the text is cut into pieces.
- The parser reads forward. Only the opening of a rejected candidate is read a second time, and a JSON document is scanned
  once, however many end markers its strings hold. So the cost is linear in the length of the text. The number of offered
  tools adds only the cost of sorting their names.

A response has at most `MAX_CALLS` calls in its text; what follows them is text. Each call becomes a block with events of
its own, which costs far more than reading the few characters that a call may have.

Where text alone does not distinguish a call from an example of one, its place does: a bare object counts as the whole
response only, a code block at its very end only, and a marker within a code block never.
"""

import re
from collections.abc import Callable

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.translate.tool_calls.text_formats import (
    BARE_FORMAT,
    FORMATS,
    OfferedTools,
    TextCall,
    TextCallFormat,
    TextCalls,
    ToolSchemas,
    read_calls,
    starts_call,
)

TextParts = list[str | TextCall]

_BACKTICKS = "```"
_BY_OPENER = {form.opener: form for form in FORMATS}
_FENCE_MARK = re.compile(f"{_BACKTICKS}`*+")
_OPENER = re.compile("|".join((*map(re.escape, _BY_OPENER), _FENCE_MARK.pattern)))
_OPENER_BEGINNINGS = frozenset(
    opener[:size] for opener in _BY_OPENER for size in range(1, len(opener))
)
_MAX_OPENER_LENGTH = max(map(len, _BY_OPENER))
# Any text without a match can neither begin an opener nor be the white space in front of one.
_SUSPECT = re.compile(r"[<\[`]|\s\Z")

MAX_CALLS = 1_000

# White space that is dropped in front of a call, and backticks that are held together. Longer runs are text.
_MAX_RUN = 100

# A closing tag that is left over where the model left out the opening one (Qwen3-Coder).
_STRAY_CLOSER = "</tool_call>"

_SPACE = re.compile(r"\s*")
# The name of a function in front of its arguments, as far as it has come: `<function=name>{...}`.
_BEFORE_DOCUMENT = re.compile(r"\s*+(?:[^\s>{\[]++(?:>\s*+|\Z))?+")
# Characters of an opening that are looked at in one go; most candidates are rejected at the first one.
_OPENING_WINDOW = 32


class TextCallParser:
    """Splits text that comes in pieces into text and calls."""

    def __init__(self, tools: ToolSchemas) -> None:
        """tools: those that a call can be for; without any, text passes as it is."""
        self._tools = OfferedTools(tools)
        self._state: Callable[[], bool] = self._read_start
        self._unread: list[str] = []
        self._text = ""
        self._pos = 0
        self._parts: TextParts = []
        self._candidate: _Candidate | None = None
        self._has_dropped_stray = False
        self._calls_left = MAX_CALLS
        # Of the text that went out: whether only blanks follow its last line break, and whether it ends in a code block.
        self._at_line_start = True
        self._in_code_block = False

    def feed(self, piece: str) -> TextParts:
        """Return what is decided with `piece`."""
        if piece and self.try_pass_through(piece):
            return [piece]
        self._unread.append(piece)
        if self._state == self._read_start and piece.isspace():
            # A response may begin with white space for ever: it is joined once, when something else comes.
            return []
        self._text, self._pos, self._unread = "".join(self._unread), 0, []
        while self._pos < len(self._text) and self._step():
            pass
        if self._pos < len(self._text):
            self._unread.append(self._text[self._pos :])
        self._text, self._pos = "", 0
        return self._take_parts()

    def try_pass_through(self, piece: str) -> bool:
        """Return whether `piece` is only text; if so, it counts as read and must not be fed."""
        if not self._tools:
            return True
        if (
            self._state != self._read_text
            or self._candidate
            or self._unread
            or _SUSPECT.search(piece)
        ):
            return False
        self._at_line_start = False
        return True

    def close(self, *, truncated: bool) -> TextParts:
        """Return the held parts at the end of the response. `truncated`: a token limit may have cut a call."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            calls = candidate.close(truncated=truncated)
            return [*calls] if self._are_acceptable(calls) else self._to_parts(candidate.text)
        return self._to_parts("".join(self._unread))

    def stop(self) -> TextParts:
        """Return what is held, as text; from now on text passes as it is."""
        text = self._candidate.text if self._candidate else "".join(self._unread)
        self._tools, self._candidate, self._unread = OfferedTools({}), None, []
        return self._to_parts(text)

    @staticmethod
    def _to_parts(text: str) -> TextParts:
        return [text] if text else []

    # The states. Each one reads from `_at` on, and returns whether to go on: not where the rest waits for more text.

    def _step(self) -> bool:
        return self._state() if self._candidate is None else self._read_call(self._candidate)

    def _read_start(self) -> bool:
        first = _skip_space(self._text, self._pos)
        if first < len(self._text) and self._text[first] in "{[":
            self._start_candidate(BARE_FORMAT, self._pos, first)
        else:
            self._state = self._read_text
        return True

    def _read_text(self) -> bool:
        opener = self._find_opener()
        if opener is None:
            held = self._measure_held_text()
            self._emit(self._text[self._pos : len(self._text) - held])
            self._pos = len(self._text) - held
            return False
        lead = opener.start() - _measure_run(self._text, self._pos, opener.start(), None)
        self._emit(self._text[self._pos : lead])
        self._start_candidate(_BY_OPENER[opener[0]], lead, opener.end())
        return True

    def _read_call(self, candidate: "_Candidate") -> bool:
        self._pos = candidate.read(self._text, self._pos)
        if candidate.is_decided:
            self._candidate = None
            if self._are_acceptable(candidate.calls):
                self._accept(candidate.calls)
            else:
                self._reject(candidate)
        return True

    def _read_gap(self) -> bool:
        self._pos = _skip_space(self._text, self._pos)
        remaining = len(self._text) - self._pos
        if self._has_dropped_stray or not remaining:
            self._state = self._read_text if remaining else self._read_gap
            return True
        if self._text.startswith(_STRAY_CLOSER, self._pos):
            self._pos += len(_STRAY_CLOSER)
            self._has_dropped_stray = True
            return True
        if remaining < len(_STRAY_CLOSER) and _STRAY_CLOSER.startswith(self._text[self._pos :]):
            return False
        self._state = self._read_text
        return True

    # Transitions.

    def _are_acceptable(self, calls: TextCalls) -> bool:
        return 0 < len(calls) <= self._calls_left

    def _start_candidate(self, call_format: TextCallFormat, lead: int, body: int) -> None:
        self._candidate = _Candidate(call_format, self._text[lead:body], self._tools)
        self._state = self._read_text
        self._pos = body

    def _accept(self, calls: TextCalls) -> None:
        self._parts += calls
        self._calls_left -= len(calls)
        self._state = self._read_gap
        self._has_dropped_stray = False
        self._at_line_start = True

    def _reject(self, candidate: "_Candidate") -> None:
        """Emit the candidate as text. Its opening is read again: another opener may be in it."""
        self._emit(candidate.rejected_text)
        if candidate.unread:
            self._text, self._pos = candidate.unread + self._text[self._pos :], 0

    # Text that goes out, and the code blocks in it.

    def _emit(self, text: str) -> None:
        if not text:
            return
        self._parts.append(text)
        fences = _FENCE_MARK.finditer(text) if _BACKTICKS in text else ()
        self._in_code_block ^= bool(
            sum(self._starts_line(text, 0, fence.start()) for fence in fences) % 2
        )
        last_line = text.rfind("\n") + 1
        is_blank = not text[last_line:].strip(" \t")
        self._at_line_start = is_blank and (last_line > 0 or self._at_line_start)

    def _starts_line(self, text: str, start: int, pos: int) -> bool:
        """Return whether only blanks precede text[at] on its line; what went out last precedes text[start]."""
        while pos > start and text[pos - 1] in " \t":
            pos -= 1
        return text[pos - 1] == "\n" if pos > start else self._at_line_start

    def _find_opener(self) -> re.Match[str] | None:
        """Return the next opener outside of code blocks. That of a JSON block begins a line."""
        in_code_block = self._in_code_block
        for match in _OPENER.finditer(self._text, self._pos):
            is_fence = match[0].startswith(_BACKTICKS)
            if is_fence and not self._starts_line(self._text, self._pos, match.start()):
                continue
            if not in_code_block and match[0] in _BY_OPENER:
                return match
            in_code_block ^= is_fence
        return None

    def _measure_held_text(self) -> int:
        """Return how many characters at the end of the text may belong to an opener that is not whole yet."""
        end = len(self._text)
        longest = min(_MAX_OPENER_LENGTH, end - self._pos)
        held = next(
            (
                size
                for size in range(longest, 0, -1)
                if self._text[end - size :] in _OPENER_BEGINNINGS
            ),
            0,
        )
        # Backticks stay together: the first one tells whether they begin a line.
        held += _measure_run(self._text, self._pos, end - held, "`")
        return held + _measure_run(self._text, self._pos, end - held, None)

    def _take_parts(self) -> TextParts:
        """Return the parts, neighbouring texts joined."""
        parts, self._parts = self._parts, []
        joined: TextParts = []
        texts: list[str] = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            joined += self._to_parts("".join(texts))
            joined.append(part)
            texts = []
        return joined + self._to_parts("".join(texts))


class _Candidate:
    """Text behind an opener that may be calls. Once `is_decided`, it is `calls`, or text where there are none."""

    def __init__(self, call_format: TextCallFormat, lead: str, tools: OfferedTools) -> None:
        """lead: the opener and the white space in front of it."""
        self.is_decided = False
        self.calls: TextCalls = []
        # Text to be read again after a rejection in the state OPENING.
        self.unread = ""
        self._call_format = call_format
        self._lead = lead
        self._tools = tools
        self._state: Callable[[str, int], int] = self._read_opening
        self._pieces: list[str] = []
        self._opening_text = ""
        # The end of the body that may be the beginning of the end marker, and was not given to `_json_body` yet.
        self._tail = ""
        self._json_body: _JsonBody | None = None

    @property
    def text(self) -> str:
        """All of the text, with the opener and the white space in front of it."""
        return self._lead + "".join(self._pieces)

    @property
    def rejected_text(self) -> str:
        """The text but for what is to be read again."""
        return self._lead if self._state == self._read_opening else self.text

    def read(self, text: str, pos: int) -> int:
        """Read text[pos:] until it is decided, and return where reading ended."""
        while pos < len(text) and not self.is_decided:
            pos = self._state(text, pos)
        return pos

    def close(self, *, truncated: bool) -> TextCalls:
        """Return the calls, where the response ends here."""
        if self._state != self._read_body:
            return self.calls
        if self._call_format.end is not None and (
            truncated or self._call_format.must_be_last or self._is_partial_document()
        ):
            return []
        return read_calls(self._call_format, "".join(self._pieces), self._tools)

    # The states. Each one reads text[pos:], and returns where it ended.

    def _read_opening(self, text: str, pos: int) -> int:
        end = pos
        while end < len(text):
            window = text[end : end + _OPENING_WINDOW]
            end += len(window)
            self._opening_text += "".join(window.split())
            starts = starts_call(self._call_format, self._opening_text, self._tools)
            if starts is not None:
                return self._leave_opening(pos, starts_call=starts)
        self._pieces.append(text[pos:])
        return len(text)

    def _leave_opening(self, pos: int, *, starts_call: bool) -> int:
        """Go on with the body, or give the opening back. What earlier pieces hold of it can't hold an end marker."""
        if starts_call:
            self._state = self._read_body
            self._tail = "".join(self._pieces)
        else:
            self.is_decided = True
            self.unread = "".join(self._pieces)
        return pos

    def _read_body(self, text: str, pos: int) -> int:
        end_marker = self._call_format.end
        if end_marker is None:
            self._pieces.append(text[pos:])
            return len(text)
        end = _find_marker_end(end_marker, self._tail, text, pos)
        piece = text[pos : len(text) if end is None else end]
        self._pieces.append(piece)
        self._scan(self._tail + piece, len(end_marker) - (end is None))
        if end is None:
            return len(text)
        if self._json_body is not None and self._json_body.is_in_string:
            # The marker is part of the arguments.
            self._scan(self._tail, 0)
            return end
        self._end_body("".join(self._pieces).removesuffix(end_marker))
        return end

    def _end_body(self, body: str) -> None:
        self.calls = read_calls(self._call_format, body, self._tools)
        if self.calls and self._call_format.must_be_last:
            self._state = self._read_after_end
        else:
            self.is_decided = True

    def _read_after_end(self, text: str, pos: int) -> int:
        after = _skip_space(text, pos)
        if after == len(text):
            self._pieces.append(text[pos:])
            return after
        self.is_decided, self.calls = True, []
        return pos

    def _scan(self, text: str, held: int) -> None:
        """Scan `text` but for its last `held` characters, which are kept as the tail."""
        size = max(len(text) - held, 0)
        self._tail = text[size:]
        if self._json_body is None:
            self._json_body = _JsonBody()
        self._json_body.feed(text[:size])

    def _is_partial_document(self) -> bool:
        """Return whether a JSON body is not whole: more is missing than the end marker."""
        self._scan(self._tail, 0)
        return self._json_body is not None and self._json_body.is_partial


class _JsonBody:
    """The scanner of a body that may be a JSON document, which the name of a function may precede."""

    def __init__(self) -> None:
        self._scanner: JsonScanner | None = None
        # What came in front of the document; None once it is clear that there is none.
        self._before: str | None = ""

    @property
    def is_in_string(self) -> bool:
        """Whether the body is valid JSON so far, and ends within a string."""
        return self._scanner is not None and self._scanner.is_valid and self._scanner.is_in_string

    @property
    def is_partial(self) -> bool:
        """Whether the body is JSON, but not a whole document."""
        return self._scanner is not None and not self._scanner.is_complete

    def feed(self, text: str) -> None:
        if self._scanner is not None:
            self._scan(self._scanner, text)
        elif self._before is not None:
            self._find_document(self._before, text)

    def _find_document(self, before: str, text: str) -> None:
        if text.isspace() and before[-1:].isspace():
            # Only whether there is white space matters.
            return
        text = before + text
        start = _match_end(_BEFORE_DOCUMENT, text, 0)
        self._before = text if start == len(text) else None
        if text[start : start + 1] in ("{", "["):
            self._scanner = JsonScanner()
            self._scan(self._scanner, text[start:])

    @staticmethod
    def _scan(scanner: JsonScanner, text: str) -> None:
        if scanner.is_valid:
            scanner.feed(text)


def _find_marker_end(marker: str, before: str, text: str, pos: int) -> int | None:
    """Return where in text[pos:] the first end marker ends, which may begin in the text before; None if it is not there."""
    seam = before[1 - len(marker) :]
    index = (seam + text[pos : pos + len(marker) - 1]).find(marker)
    if index >= 0:
        return pos + index + len(marker) - len(seam)
    index = text.find(marker, pos)
    return index + len(marker) if index >= 0 else None


def _skip_space(text: str, pos: int) -> int:
    return _match_end(_SPACE, text, pos)


def _match_end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    match = pattern.match(text, pos)
    return match.end() if match else pos


def _measure_run(text: str, start: int, end: int, characters: str | None) -> int:
    """Return how many of `characters`, white space with None, end text[start:end], as far as they are held."""
    run = text[max(start, end - _MAX_RUN) : end]
    return len(run) - len(run.rstrip(characters))
