"""JSON that comes in pieces: how much of it is the beginning of a document, and how that beginning can be closed.

One pass, character by character where the grammar (RFC 8259) needs it and by runs of plain characters and white space
where it doesn't: linear in the length of the text, however it is cut. Strict: NaN, comments, single quotes and raw control
characters are invalid, and so is half a surrogate pair, escaped or not, at which the Python SDK's parser fails.
"""

import re
from collections.abc import Callable

_SPACE = re.compile(r"[ \t\n\r]*")
# Characters of a string, with the escapes that stand for whole ones.
_PLAIN = re.compile(
    r"""[^"\\\x00-\x1f\ud800-\udfff]*+
    (?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f\ud800-\udfff]*+)*+""",
    re.VERBOSE,
)
_DIGITS = re.compile(r"[0-9]*")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_ESCAPED = frozenset('"\\/bfnrt')
_LITERALS = {"t": "rue", "f": "alse", "n": "ull"}
_CLOSERS = {"{": "}", "[": "]"}

# Parsers stop at some depth (the Python SDK's at 200): a document that no client can read counts as invalid.
_DEEPEST = 100

_CLASSES = {
    **dict.fromkeys("123456789", "1"),
    "0": "0",
    ".": ".",
    "e": "e",
    "E": "e",
    "+": "+",
    "-": "-",
}
_NUMBER = {
    "begun": {"-": "minus", "0": "zero", "1": "whole"},
    "minus": {"0": "zero", "1": "whole"},
    "zero": {".": "point", "e": "exponent"},
    "whole": {"0": "whole", "1": "whole", ".": "point", "e": "exponent"},
    "point": {"0": "fraction", "1": "fraction"},
    "fraction": {"0": "fraction", "1": "fraction", "e": "exponent"},
    "exponent": {"0": "power", "1": "power", "+": "sign", "-": "sign"},
    "sign": {"0": "power", "1": "power"},
    "power": {"0": "power", "1": "power"},
}
_NUMBER_ENDS = frozenset({"zero", "whole", "fraction", "power"})
# States that more digits leave as they are.
_DIGIT_RUNS = frozenset({"whole", "fraction", "power"})


class JsonScanner:
    """Reads one document, piece by piece.

    valid: nothing but the beginning of a document (or a whole one) has come. length: characters that were valid. safe: how
    many of them can be kept if nothing more comes: with `closing` behind them they are a document in which nothing is
    made up. A key without its value, a number that may go on, half a literal and half an escape lie behind `safe`; a
    string value may be cut. depth: open objects and arrays. in_string: whether `safe` lies within a string.
    """

    def __init__(self) -> None:
        self.valid = True
        self.length = 0
        self.safe = 0
        self.in_string = False
        self._before = 0
        self._open: list[str] = []
        self._is_key = False
        self._token = ""
        self._has_half = False
        self._state: Callable[[str, int], int] = self._value

    @property
    def whole(self) -> bool:
        """Whether the valid characters are a whole document."""
        if self._open:
            return False
        return self._state == self._after or (
            self._state == self._number and self._token in _NUMBER_ENDS
        )

    @property
    def quoted(self) -> bool:
        """Whether the next character would stand in a string."""
        return self._state in (self._string, self._escape, self._code)

    @property
    def closing(self) -> str:
        """The quote and brackets that make a document of the first `safe` characters."""
        return '"' * self.in_string + "".join(reversed(self._open))

    @property
    def depth(self) -> int:
        return len(self._open)

    def feed(self, piece: str, start: int = 0) -> int:
        """Go on with piece[start:]; the place of the first character that is invalid, or the end. Then feed no more."""
        at, self._before = start, self.length - start
        while self.valid and at < len(piece):
            at = self._state(piece, at)
        self.length = self._before + at
        return at

    def accept(self, document: str) -> None:
        """Go past a whole document, known to be valid, without reading it. Only before anything else."""
        self.length = self.safe = len(document)
        self._state = self._after

    def _fail(self, at: int) -> int:
        self.valid = False
        return at

    def _mark(self, at: int) -> None:
        self.safe = self._before + at

    def _value(self, piece: str, at: int) -> int:
        at = _past(_SPACE, piece, at)
        if at == len(piece):
            return at
        character = piece[at]
        if character in _CLOSERS:
            return self._enter(character, at)
        if character == '"':
            self._state, self._is_key = self._string, False
        elif character in _LITERALS:
            self._state, self._token = self._literal, _LITERALS[character]
        elif character in _CLASSES:
            self._state, self._token = self._number, "begun"
            return at
        else:
            return self._fail(at)
        return at + 1

    def _enter(self, bracket: str, at: int) -> int:
        if len(self._open) == _DEEPEST:
            return self._fail(at)
        self._open.append(_CLOSERS[bracket])
        self._state = self._first
        self._mark(at + 1)
        return at + 1

    def _first(self, piece: str, at: int) -> int:
        """After an opening bracket: it may be closed at once."""
        at = _past(_SPACE, piece, at)
        if at == len(piece):
            return at
        if piece[at] == self._open[-1]:
            return self._leave(at)
        self._state = self._member
        return at

    def _member(self, piece: str, at: int) -> int:
        """A key, or an array's value."""
        if self._open[-1] == "]":
            self._state = self._value
            return at
        at = _past(_SPACE, piece, at)
        if at == len(piece):
            return at
        if piece[at] != '"':
            return self._fail(at)
        self._state, self._is_key = self._string, True
        return at + 1

    def _leave(self, at: int) -> int:
        self._open.pop()
        self._end_value(at + 1)
        return at + 1

    def _end_value(self, at: int) -> None:
        self._state, self.in_string = self._after, False
        self._mark(at)

    def _after(self, piece: str, at: int) -> int:
        """After a value: a comma, a closing bracket, or the end of the document."""
        at = _past(_SPACE, piece, at)
        if at == len(piece):
            return at
        if self._open and piece[at] == self._open[-1]:
            return self._leave(at)
        if not self._open or piece[at] != ",":
            return self._fail(at)
        self._state = self._member
        return at + 1

    def _string(self, piece: str, at: int) -> int:
        if self._has_half:
            return self._second_half(piece, at)
        end = _past(_PLAIN, piece, at)
        if end > at:
            self._within(end)
        if end == len(piece):
            return end
        if piece[end] == "\\":
            self._state = self._escape
        elif piece[end] != '"':
            return self._fail(end)
        elif self._is_key:
            self._state = self._colon
        else:
            self._end_value(end + 1)
        return end + 1

    def _second_half(self, piece: str, at: int) -> int:
        """After the escaped first half of a surrogate pair: only the escape of the second one may follow."""
        if piece[at] != "\\":
            return self._fail(at)
        self._state = self._escape
        return at + 1

    def _within(self, at: int) -> None:
        if not self._is_key:
            self.in_string = True
            self._mark(at)

    def _escape(self, piece: str, at: int) -> int:
        if piece[at] == "u":
            self._state, self._token = self._code, ""
        elif piece[at] in _ESCAPED and not self._has_half:
            self._state = self._string
            self._within(at + 1)
        else:
            return self._fail(at)
        return at + 1

    def _code(self, piece: str, at: int) -> int:
        if piece[at] not in _HEX_DIGITS:
            return self._fail(at)
        self._token += piece[at]
        return self._character(at) if len(self._token) == 4 else at + 1

    def _character(self, at: int) -> int:
        """At the end of an escaped character. Cut behind the first half of a pair, the text would end in half of one."""
        code = int(self._token, 16)
        if (0xDC00 <= code < 0xE000) != self._has_half:
            return self._fail(at)
        self._state, self._has_half = self._string, 0xD800 <= code < 0xDC00
        if not self._has_half:
            self._within(at + 1)
        return at + 1

    def _colon(self, piece: str, at: int) -> int:
        at = _past(_SPACE, piece, at)
        if at == len(piece):
            return at
        if piece[at] != ":":
            return self._fail(at)
        self._state = self._value
        return at + 1

    def _number(self, piece: str, at: int) -> int:
        step = _NUMBER[self._token].get(_CLASSES.get(piece[at], ""))
        if step:
            self._token = step
            return _past(_DIGITS, piece, at + 1) if step in _DIGIT_RUNS else at + 1
        if self._token not in _NUMBER_ENDS:
            return self._fail(at)
        self._end_value(at)
        return at

    def _literal(self, piece: str, at: int) -> int:
        if piece[at] != self._token[0]:
            return self._fail(at)
        self._token = self._token[1:]
        if not self._token:
            self._end_value(at + 1)
        return at + 1


def _past(run: re.Pattern[str], piece: str, at: int) -> int:
    found = run.match(piece, at)
    return found.end() if found else at
