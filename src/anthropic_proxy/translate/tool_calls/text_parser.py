"""Parser for tool calls that a model writes into its text.

Weak models, and servers without the right parser, leave calls in the text; the client would show them, and no tool would
run. `TextCalls` splits the text of one response, in pieces cut anywhere, into text and calls. The formats are rows of a
table: see translate/callformats.py.

States of `TextCalls`, and what each one waits for:

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

A response has at most `MOST_CALLS` calls in its text; what follows them is text. Each call becomes a block with events of
its own, which costs far more than reading the few characters that a call may have.

Where text alone does not distinguish a call from an example of one, its place does: a bare object counts as the whole
response only, a code block at its very end only, and a marker within a code block never.
"""

import re
from collections.abc import Callable

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.translate.tool_calls.text_formats import (
    BARE,
    FORMATS,
    Calls,
    Format,
    OfferedTools,
    TextCall,
    Tools,
    read_calls,
    starts_call,
)

Parts = list[str | TextCall]

_BACKTICKS = "```"
_BY_OPENER = {form.opener: form for form in FORMATS}
_FENCE_MARK = re.compile(f"{_BACKTICKS}`*+")
_OPENER = re.compile("|".join((*map(re.escape, _BY_OPENER), _FENCE_MARK.pattern)))
_OPENER_BEGINNINGS = frozenset(
    opener[:size] for opener in _BY_OPENER for size in range(1, len(opener))
)
_LONGEST_OPENER = max(map(len, _BY_OPENER))
# Any text without a match can neither begin an opener nor be the white space in front of one.
_SUSPECT = re.compile(r"[<\[`]|\s\Z")

MOST_CALLS = 1_000

# White space that is dropped in front of a call, and backticks that are held together. Longer runs are text.
_LONGEST_RUN = 100

# A closing tag that is left over where the model left out the opening one (Qwen3-Coder).
_STRAY = "</tool_call>"

_SPACE = re.compile(r"\s*")
# The name of a function in front of its arguments, as far as it has come: `<function=name>{...}`.
_BEFORE_DOCUMENT = re.compile(r"\s*+(?:[^\s>{\[]++(?:>\s*+|\Z))?+")
# Characters of an opening that are looked at in one go; most candidates are rejected at the first one.
_OPENING_WINDOW = 32


class TextCalls:
    """Splits text that comes in pieces into text and calls."""

    def __init__(self, tools: Tools) -> None:
        """tools: those that a call can be for; without any, text passes as it is."""
        self._tools = OfferedTools(tools)
        self._state: Callable[[], bool] = self._start
        self._unread: list[str] = []
        self._text = ""
        self._at = 0
        self._parts: Parts = []
        self._candidate: _Candidate | None = None
        self._dropped_stray = False
        self._calls_left = MOST_CALLS
        # Of the text that went out: whether only blanks follow its last line break, and whether it ends in a code block.
        self._at_line_start = True
        self._in_block = False

    def feed(self, piece: str) -> Parts:
        """Return what is decided with `piece`."""
        if piece and self.passes(piece):
            return [piece]
        self._unread.append(piece)
        if self._state == self._start and piece.isspace():
            # A response may begin with white space for ever: it is joined once, when something else comes.
            return []
        self._text, self._at, self._unread = "".join(self._unread), 0, []
        while self._at < len(self._text) and self._step():
            pass
        if self._at < len(self._text):
            self._unread.append(self._text[self._at :])
        self._text, self._at = "", 0
        return self._take()

    def passes(self, piece: str) -> bool:
        """Return whether `piece` is text and nothing else; then it need not be fed."""
        if not self._tools:
            return True
        if self._state != self._prose or self._candidate or self._unread or _SUSPECT.search(piece):
            return False
        self._at_line_start = False
        return True

    def close(self, *, cut: bool) -> Parts:
        """Return what is held at the end of the response. cut: it ran into its limit, so a call may be half there."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            calls = candidate.close(cut=cut)
            return [*calls] if self._are_accepted(calls) else self._text_parts(candidate.text)
        return self._text_parts("".join(self._unread))

    def stop(self) -> Parts:
        """Return what is held, as text; from now on text passes as it is."""
        held = self._candidate.text if self._candidate else "".join(self._unread)
        self._tools, self._candidate, self._unread = OfferedTools({}), None, []
        return self._text_parts(held)

    @staticmethod
    def _text_parts(text: str) -> Parts:
        return [text] if text else []

    # The states. Each one reads from `_at` on, and returns whether to go on: not where the rest waits for more text.

    def _step(self) -> bool:
        return self._state() if self._candidate is None else self._call(self._candidate)

    def _start(self) -> bool:
        first = _past_space(self._text, self._at)
        if first < len(self._text) and self._text[first] in "{[":
            self._begin_candidate(BARE, self._at, first)
        else:
            self._state = self._prose
        return True

    def _prose(self) -> bool:
        opener = self._next_opener()
        if opener is None:
            held = self._held_size()
            self._emit(self._text[self._at : len(self._text) - held])
            self._at = len(self._text) - held
            return False
        lead = opener.start() - _run_at_end(self._text, self._at, opener.start(), None)
        self._emit(self._text[self._at : lead])
        self._begin_candidate(_BY_OPENER[opener[0]], lead, opener.end())
        return True

    def _call(self, candidate: "_Candidate") -> bool:
        self._at = candidate.read(self._text, self._at)
        if candidate.decided:
            self._candidate = None
            if self._are_accepted(candidate.calls):
                self._accept(candidate.calls)
            else:
                self._reject(candidate)
        return True

    def _gap(self) -> bool:
        self._at = _past_space(self._text, self._at)
        left = len(self._text) - self._at
        if self._dropped_stray or not left:
            self._state = self._prose if left else self._gap
            return True
        if self._text.startswith(_STRAY, self._at):
            self._at += len(_STRAY)
            self._dropped_stray = True
            return True
        if left < len(_STRAY) and _STRAY.startswith(self._text[self._at :]):
            return False
        self._state = self._prose
        return True

    # Transitions.

    def _are_accepted(self, calls: Calls) -> bool:
        return 0 < len(calls) <= self._calls_left

    def _begin_candidate(self, form: Format, lead: int, body: int) -> None:
        self._candidate = _Candidate(form, self._text[lead:body], self._tools)
        self._state = self._prose
        self._at = body

    def _accept(self, calls: Calls) -> None:
        self._parts += calls
        self._calls_left -= len(calls)
        self._state = self._gap
        self._dropped_stray = False
        self._at_line_start = True

    def _reject(self, candidate: "_Candidate") -> None:
        """Emit the candidate as text. Its opening is read again: another opener may be in it."""
        self._emit(candidate.rejected_text)
        if candidate.unread:
            self._text, self._at = candidate.unread + self._text[self._at :], 0

    # Text that goes out, and the code blocks in it.

    def _emit(self, text: str) -> None:
        if not text:
            return
        self._parts.append(text)
        fences = _FENCE_MARK.finditer(text) if _BACKTICKS in text else ()
        self._in_block ^= bool(
            sum(self._begins_line(text, 0, fence.start()) for fence in fences) % 2
        )
        last_line = text.rfind("\n") + 1
        is_blank = not text[last_line:].strip(" \t")
        self._at_line_start = is_blank and (last_line > 0 or self._at_line_start)

    def _begins_line(self, text: str, start: int, at: int) -> bool:
        """Return whether only blanks precede text[at] on its line; what went out last precedes text[start]."""
        while at > start and text[at - 1] in " \t":
            at -= 1
        return text[at - 1] == "\n" if at > start else self._at_line_start

    def _next_opener(self) -> re.Match[str] | None:
        """Return the next opener outside of code blocks. That of a JSON block begins a line."""
        in_block = self._in_block
        for found in _OPENER.finditer(self._text, self._at):
            is_fence = found[0].startswith(_BACKTICKS)
            if is_fence and not self._begins_line(self._text, self._at, found.start()):
                continue
            if not in_block and found[0] in _BY_OPENER:
                return found
            in_block ^= is_fence
        return None

    def _held_size(self) -> int:
        """Return how many characters at the end of the text may belong to an opener that is not whole yet."""
        end = len(self._text)
        longest = min(_LONGEST_OPENER, end - self._at)
        held = next(
            (
                size
                for size in range(longest, 0, -1)
                if self._text[end - size :] in _OPENER_BEGINNINGS
            ),
            0,
        )
        # Backticks stay together: the first one tells whether they begin a line.
        held += _run_at_end(self._text, self._at, end - held, "`")
        return held + _run_at_end(self._text, self._at, end - held, None)

    def _take(self) -> Parts:
        """Return the parts, neighbouring texts joined."""
        parts, self._parts = self._parts, []
        joined: Parts = []
        texts: list[str] = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            joined += self._text_parts("".join(texts))
            joined.append(part)
            texts = []
        return joined + self._text_parts("".join(texts))


class _Candidate:
    """Text behind an opener that may be calls. Once `decided`, it is `calls`, or text where there are none."""

    def __init__(self, form: Format, lead: str, tools: OfferedTools) -> None:
        """lead: the opener and the white space in front of it."""
        self.decided = False
        self.calls: Calls = []
        # Text to be read again after a rejection in the state OPENING.
        self.unread = ""
        self._form = form
        self._lead = lead
        self._tools = tools
        self._state: Callable[[str, int], int] = self._opening
        self._pieces: list[str] = []
        self._opening_text = ""
        # The end of the body that may be the beginning of the end marker, and was not given to `_json` yet.
        self._tail = ""
        self._json: _JsonBody | None = None

    @property
    def text(self) -> str:
        """All of the text, with the opener and the white space in front of it."""
        return self._lead + "".join(self._pieces)

    @property
    def rejected_text(self) -> str:
        """The text but for what is to be read again."""
        return self._lead if self._state == self._opening else self.text

    def read(self, text: str, at: int) -> int:
        """Read text[at:] until it is decided, and return where reading ended."""
        while at < len(text) and not self.decided:
            at = self._state(text, at)
        return at

    def close(self, *, cut: bool) -> Calls:
        """Return the calls, where the response ends here."""
        if self._state != self._body:
            return self.calls
        if self._form.end is not None and (cut or self._form.last or self._is_half_document()):
            return []
        return read_calls(self._form, "".join(self._pieces), self._tools)

    # The states. Each one reads text[at:], and returns where it ended.

    def _opening(self, text: str, at: int) -> int:
        end = at
        while end < len(text):
            window = text[end : end + _OPENING_WINDOW]
            end += len(window)
            self._opening_text += "".join(window.split())
            starts = starts_call(self._form, self._opening_text, self._tools)
            if starts is not None:
                return self._leave_opening(at, starts=starts)
        self._pieces.append(text[at:])
        return len(text)

    def _leave_opening(self, at: int, *, starts: bool) -> int:
        """Go on with the body, or give the opening back. What earlier pieces hold of it can't hold an end marker."""
        if starts:
            self._state = self._body
            self._tail = "".join(self._pieces)
        else:
            self.decided = True
            self.unread = "".join(self._pieces)
        return at

    def _body(self, text: str, at: int) -> int:
        end_marker = self._form.end
        if end_marker is None:
            self._pieces.append(text[at:])
            return len(text)
        end = _end_of_marker(end_marker, self._tail, text, at)
        piece = text[at : len(text) if end is None else end]
        self._pieces.append(piece)
        self._scan(self._tail + piece, len(end_marker) - (end is None))
        if end is None:
            return len(text)
        if self._json is not None and self._json.in_string:
            # The marker is part of the arguments.
            self._scan(self._tail, 0)
            return end
        self._end_body("".join(self._pieces).removesuffix(end_marker))
        return end

    def _end_body(self, body: str) -> None:
        self.calls = read_calls(self._form, body, self._tools)
        if self.calls and self._form.last:
            self._state = self._ended
        else:
            self.decided = True

    def _ended(self, text: str, at: int) -> int:
        after = _past_space(text, at)
        if after == len(text):
            self._pieces.append(text[at:])
            return after
        self.decided, self.calls = True, []
        return at

    def _scan(self, text: str, held: int) -> None:
        """Scan `text` but for its last `held` characters, which are kept as the tail."""
        size = max(len(text) - held, 0)
        self._tail = text[size:]
        if self._json is None:
            self._json = _JsonBody()
        self._json.feed(text[:size])

    def _is_half_document(self) -> bool:
        """Return whether a JSON body is not whole: more is missing than the end marker."""
        self._scan(self._tail, 0)
        return self._json is not None and self._json.is_half


class _JsonBody:
    """The scanner of a body that may be a JSON document, which the name of a function may precede."""

    def __init__(self) -> None:
        self._scanner: JsonScanner | None = None
        # What came in front of the document; None once it is clear that there is none.
        self._before: str | None = ""

    @property
    def in_string(self) -> bool:
        """Whether the body is valid JSON so far, and ends within a string."""
        return self._scanner is not None and self._scanner.valid and self._scanner.quoted

    @property
    def is_half(self) -> bool:
        """Whether the body is JSON, but not a whole document."""
        return self._scanner is not None and not self._scanner.whole

    def feed(self, text: str) -> None:
        if self._scanner is not None:
            self._go_on(self._scanner, text)
        elif self._before is not None:
            self._look_for_document(self._before, text)

    def _look_for_document(self, before: str, text: str) -> None:
        if text.isspace() and before[-1:].isspace():
            # Only whether there is white space matters.
            return
        text = before + text
        start = _end_of_match(_BEFORE_DOCUMENT, text, 0)
        self._before = text if start == len(text) else None
        if text[start : start + 1] in ("{", "["):
            self._scanner = JsonScanner()
            self._go_on(self._scanner, text[start:])

    @staticmethod
    def _go_on(scanner: JsonScanner, text: str) -> None:
        if scanner.valid:
            scanner.feed(text)


def _end_of_marker(marker: str, before: str, text: str, at: int) -> int | None:
    """Return where in text[at:] the first end marker ends, which may begin in the text before; None if it is not there."""
    seam = before[1 - len(marker) :]
    found = (seam + text[at : at + len(marker) - 1]).find(marker)
    if found >= 0:
        return at + found + len(marker) - len(seam)
    found = text.find(marker, at)
    return found + len(marker) if found >= 0 else None


def _past_space(text: str, at: int) -> int:
    return _end_of_match(_SPACE, text, at)


def _end_of_match(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _run_at_end(text: str, start: int, end: int, characters: str | None) -> int:
    """Return how many of `characters`, white space with None, end text[start:end], as far as they are held."""
    run = text[max(start, end - _LONGEST_RUN) : end]
    return len(run) - len(run.rstrip(characters))
