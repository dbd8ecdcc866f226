"""Tool calls that a model wrote into its text, taken out of it while it streams.

Weak models, and servers without the right parser, leave calls in the text; the client would show them, and nothing would
run. What could be the beginning of a marker is held back, and what stands behind one until it ends or can't be a call of
an offered tool any more. Then it is a call, or the text that it was, to the character. See translate/callformats.py.

Where the text alone doesn't tell a call from an example of one, its place must: a bare object counts as the whole answer
only, a code block as its very end, and a marker within a code block not at all.
"""

import re
from bisect import bisect_left
from enum import Enum, auto

from anthropic_proxy.translate.callformats import BARE, FENCE, FORMATS, Calls, Format, TextCall, Tools, read
from anthropic_proxy.translate.jsonscan import JsonScanner

_BY_OPENER = {form.opener: form for form in FORMATS}
_OPENER = re.compile("|".join(re.escape(opener) for opener in _BY_OPENER))
_SUSPECT = re.compile(r"[<\[`]|\s\Z")
_BEGINNINGS = frozenset(opener[:size] for opener in _BY_OPENER for size in range(1, len(opener)))
_LONGEST = max(map(len, _BY_OPENER))

# White space that goes where a call follows it, and backticks that are held together: endless runs of them stream on.
_LONGEST_RUN = 100

_LINE_OF_BLOCK = re.compile(r"^[ \t]*```", re.MULTILINE)
_JSON = re.compile(r"\s*(?:[^\s>{\[]+>\s*)?(?=[{\[])")

# A closing tag that is left over where the model left out the opening one (Qwen3-Coder).
_STRAY = "</tool_call>"

Parts = list[str | TextCall]


class _Place(Enum):
    START = auto()
    TEXT = auto()
    GAP = auto()


class TextCalls:
    """Splits text that comes in pieces into text and calls. The white space around calls goes."""

    def __init__(self, tools: Tools) -> None:
        """tools: those that a call can be for; without any, text passes as it is."""
        self._tools = tools
        self._held = ""
        self._candidate: _Candidate | None = None
        self._place = _Place.START
        self._at_line_start = True
        self._in_block = False

    def feed(self, piece: str) -> Parts:
        """What is decided with `piece`."""
        if piece and self.passes(piece):
            return [piece]
        parts: Parts = []
        while piece:
            piece = self._go_on(piece, parts) if self._candidate else self._look(piece, parts)
        return parts

    def passes(self, piece: str) -> bool:
        """Whether `piece` is text and nothing else; then it need not be fed."""
        if not self._tools:
            return True
        if not self._passes or _SUSPECT.search(piece):
            return False
        self._at_line_start = False
        return True

    def close(self, *, cut: bool) -> Parts:
        """What is held back, at the end of the answer. cut: it ran into its limit, so that a call may be half there."""
        candidate, self._candidate = self._candidate, None
        if candidate is None:
            return self._give_up()
        calls = candidate.at_the_end(self._tools, cut=cut)
        return list(calls) or self._text(candidate.text)

    def stop(self) -> Parts:
        """What is held back, as text; from now on text passes as it is."""
        self._tools = {}
        candidate, self._candidate = self._candidate, None
        return self._text(candidate.text) if candidate else self._give_up()

    @property
    def _passes(self) -> bool:
        return self._at(_Place.TEXT) and not self._held and self._candidate is None

    def _at(self, place: _Place) -> bool:
        return self._place is place

    def _give_up(self) -> Parts:
        text, self._held = self._held, ""
        return [] if self._at(_Place.GAP) and not text.strip() else self._text(text)

    def _text(self, text: str) -> Parts:
        if text and self._tools:
            self._in_block ^= bool(len(self._lines_of_blocks(text)) % 2)
            self._at_line_start = text.endswith("\n")
        return [text] if text else []

    def _look(self, piece: str, parts: Parts) -> str:
        """Outside a marker: gives out what is text, and leaves what is behind an opener."""
        text, self._held = self._held + piece, ""
        if not self._at(_Place.TEXT):
            text = self._begin(text)
            if self._candidate or not self._at(_Place.TEXT):
                return text
        opener = self._find(text)
        if opener is None:
            self._hold_back(text, parts)
            return ""
        before = text[: opener.start()]
        space = _run_at_end(before, None)
        parts += self._text(before[: len(before) - space])
        self._candidate = _Candidate(_BY_OPENER[opener[0]], before[len(before) - space :], self._tools)
        return text[opener.end() :]

    def _begin(self, text: str) -> str:
        """At the start of the answer, or behind a call: what is left of `text` to look at."""
        begun = text.lstrip()
        if self._at(_Place.GAP):
            text = begun = begun.removeprefix(_STRAY).lstrip()
        if not begun or (self._at(_Place.GAP) and _STRAY.startswith(begun)):
            self._held = text
            return ""
        if self._at(_Place.START) and begun[0] in "{[":
            self._candidate = _Candidate(BARE, text[: -len(begun)], self._tools)
            text = begun
        self._place = _Place.TEXT
        return text

    def _find(self, text: str) -> re.Match[str] | None:
        """The first opener that is not within a code block; that of a code block begins a line."""
        ends = self._lines_of_blocks(text)
        for found in _OPENER.finditer(text):
            before = bisect_left(ends, found.start() + 1)
            begins_line = found[0] != FENCE.opener or found.start() + 3 in ends[before : before + 1]
            if begins_line and not self._in_block ^ bool(before % 2):
                return found
        return None

    def _lines_of_blocks(self, text: str) -> list[int]:
        """Where the backticks end that begin or end code blocks."""
        ends = [found.end() for found in _LINE_OF_BLOCK.finditer(text)]
        return ends if self._at_line_start or "\n" in text[: ends[0] if ends else 0] else ends[1:]

    def _hold_back(self, text: str, parts: Parts) -> None:
        sizes = range(min(len(text), _LONGEST), 0, -1)
        kept = next((size for size in sizes if text[-size:] in _BEGINNINGS), 0)
        # Backticks stay together: where their line begins is told by the first.
        kept = max(kept, _run_at_end(text, "`"))
        kept += _run_at_end(text[: len(text) - kept], None)
        self._held = text[len(text) - kept :]
        parts += self._text(text[: len(text) - kept])

    def _go_on(self, piece: str, parts: Parts) -> str:
        """Behind an opener: what is left of `piece` when that is decided."""
        if self._candidate is None:
            return piece
        rest = self._candidate.feed(piece)
        return self._settle(rest, parts)

    def _settle(self, rest: str, parts: Parts) -> str:
        candidate = self._candidate
        if candidate is None or not candidate.decided:
            return rest
        self._candidate = None
        parts += candidate.calls or self._text(candidate.text[: len(candidate.text) - len(candidate.again)])
        if candidate.calls:
            self._place, self._at_line_start = _Place.GAP, True
        return candidate.again + rest


def _run_at_end(text: str, characters: str | None) -> int:
    """How many of `characters`, white space with None, end the text, as far as they are held back."""
    end = text[-_LONGEST_RUN:]
    return len(end) - len(end.rstrip(characters))


class _Candidate:
    """What stands behind an opener, and may be calls. decided: it is, with `calls`, or is not. Then its text is `text`,
    the last part of which, `again`, has yet to be looked at for other openers.
    """

    def __init__(self, form: Format, lead: str, tools: Tools) -> None:
        self.decided = False
        self.calls: Calls = []
        self.again = ""
        self._form = form
        self._lead = lead
        self._tools = tools
        self._pieces: list[str] = []
        self._tail = ""
        self._beginnings = [each for name in tools for each in form.beginnings(name)]
        self._begun = ""
        self._is_plausible = False
        self._is_over = False

    @property
    def text(self) -> str:
        return self._lead + self._form.opener + "".join(self._pieces)

    def feed(self, piece: str) -> str:
        """Go on with `piece`; what is left of it."""
        if not self._is_plausible:
            return self._check(piece)
        if self._is_over:
            return self._after_the_end(piece)
        return self._search(piece)

    def _check(self, piece: str) -> str:
        """The first characters tell most of what is no call."""
        self._pieces.append(piece)
        self._begun += "".join(piece.split())
        self._is_plausible = any(self._begun.startswith(each) for each in self._beginnings)
        if self._is_plausible:
            body, self._pieces = "".join(self._pieces), []
            return self._search(body)
        if not any(each.startswith(self._begun) for each in self._beginnings):
            self.decided, self.again = True, "".join(self._pieces)
        return ""

    def _search(self, piece: str) -> str:
        end = self._form.end
        window = self._tail + piece
        found = window.find(end) if end else -1
        if end is None or found < 0:
            self._pieces.append(piece)
            self._tail = window[-(len(end or "") - 1) :] if end else ""
            return ""
        cut = found + len(end) - len(self._tail)
        self._pieces.append(piece[:cut])
        self._tail = ""
        self._end(end)
        return piece[cut:]

    def _end(self, end: str) -> None:
        body = "".join(self._pieces).removesuffix(end)
        if _ends_in_string(body):
            # The marker is part of the arguments.
            return
        self.calls = read(self._form, body, self._tools)
        self._is_over = bool(self.calls) and self._form.last
        self.decided = not self._is_over

    def _after_the_end(self, piece: str) -> str:
        """A call only where nothing follows."""
        if piece.strip():
            self.decided, self.calls = True, []
            return piece
        self._pieces.append(piece)
        return ""

    def at_the_end(self, tools: Tools, *, cut: bool) -> Calls:
        """The calls, when the answer ends here."""
        body = "".join(self._pieces)
        if self._is_over or not self._is_plausible:
            return self.calls
        unfinished = self._form.end is not None and (cut or self._form.last or _is_half(body))
        return [] if unfinished else read(self._form, body, tools)


def _scanned(body: str) -> JsonScanner | None:
    """The JSON that `body` is, perhaps behind a name; None where it is none."""
    start = _JSON.match(body)
    if start is None:
        return None
    scanner = JsonScanner()
    scanner.feed(body, start.end())
    return scanner


def _ends_in_string(body: str) -> bool:
    scanner = _scanned(body)
    return scanner is not None and scanner.valid and scanner.quoted


def _is_half(body: str) -> bool:
    """Whether a document is only half there: the closing tag is not all that is missing."""
    scanner = _scanned(body)
    return scanner is not None and not scanner.whole
