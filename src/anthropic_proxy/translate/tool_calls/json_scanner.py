"""Scan JSON that arrives in pieces.

The scanner finds the valid part of the text, and the text that completes it to a document. It is a
state machine for the grammar of RFC 8259 with one method for each state. Each method reads from a
position and returns the position after the text that it read:

    value          before a value
    first_member   after an opening bracket
    member         before the key or the value of a member
    string         in a key or a string value (escape, code_point: in an escape sequence)
    colon          after a key
    number         in a number
    literal        in true, false or null
    after_value    after a value, or after the document

Plain characters and white space are read in runs, so the cost is linear in the length of the text
and independent of the pieces. The scanner is strict: NaN, comments, single quotes and raw control
characters are invalid. Unpaired surrogates, escaped or not, are invalid too, because the Python
SDK's parser rejects them.
"""

import re
from collections.abc import Callable, Container

_SPACE = re.compile(r"[ \t\n\r]*")
# Characters of a string and escape sequences, except surrogates.
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

# Parsers of clients limit the depth; the limit of the Python SDK is 200.
_MAX_DEPTH = 100

# Numbers have a separate state machine: state -> class of the next character -> next state.
_CHARACTER_CLASSES = {
    **dict.fromkeys("123456789", "1"),
    "0": "0",
    ".": ".",
    "e": "e",
    "E": "e",
    "+": "+",
    "-": "-",
}
_NUMBER_STATES = {
    "start": {"-": "minus", "0": "zero", "1": "integer"},
    "minus": {"0": "zero", "1": "integer"},
    "zero": {".": "point", "e": "exponent"},
    "integer": {"0": "integer", "1": "integer", ".": "point", "e": "exponent"},
    "point": {"0": "fraction", "1": "fraction"},
    "fraction": {"0": "fraction", "1": "fraction", "e": "exponent"},
    "exponent": {"0": "power", "1": "power", "+": "sign", "-": "sign"},
    "sign": {"0": "power", "1": "power"},
    "power": {"0": "power", "1": "power"},
}
# States in which the number may end.
_NUMBER_ENDS = frozenset({"zero", "integer", "fraction", "power"})
# States that more digits do not change.
_DIGIT_RUNS = frozenset({"integer", "fraction", "power"})


class JsonScanner:
    """Scans one document, piece by piece."""

    def __init__(self, watched_members: Container[str] = ()) -> None:
        """Create a scanner that finds strings as values of `watched_members` of the document."""
        # False if the text is not the beginning of a document.
        self.is_valid = True
        # The number of valid characters.
        self.length = 0
        # The number of characters that form a document with `closing_text`, without invented
        # content. They may end within a string value. They exclude a key without its value, a
        # number that may continue, an incomplete literal and an incomplete escape sequence.
        self.safe_length = 0
        # The safe length before the first string in a watched member.
        self.length_before_string: int | None = None
        self._watched_members = watched_members
        # The text of a key of the document, if there are watched members.
        self._key: list[str] = []
        # True if `safe_length` ends within a string.
        self._is_safe_in_string = False
        # The length of all earlier pieces.
        self._offset = 0
        # The brackets that close the open objects and arrays.
        self._closers: list[str] = []
        # True if the string is a key.
        self._is_key = False
        # The rest of a literal, the state of a number, or the digits of a code point.
        self._token = ""
        self._has_high_surrogate = False
        self._state: Callable[[str, int], int] = self._read_value

    @property
    def is_complete(self) -> bool:
        """True if the valid characters are a complete document."""
        if self._closers:
            return False
        if self._state == self._read_number:
            return self._token in _NUMBER_ENDS
        return self._state == self._read_after_value

    @property
    def is_in_string(self) -> bool:
        """True if the scanned text ends within a string."""
        return self._state in (self._read_string, self._read_escape, self._read_code_point)

    @property
    def closing_text(self) -> str:
        """The text that completes the first `safe_length` characters to a document."""
        quote = '"' if self._is_safe_in_string else ""
        return quote + "".join(reversed(self._closers))

    def feed(self, piece: str, pos: int = 0) -> int:
        """Read piece[pos:] and return the end of its valid part.

        If a part is invalid, no more pieces may follow.
        """
        self._offset = self.length - pos
        while self.is_valid and pos < len(piece):
            pos = self._state(piece, pos)
        self.length = self._offset + pos
        return pos

    def skip_document(self, document: str) -> None:
        """Skip a complete, valid document without reading it. Call it before `feed`."""
        self.length = self.safe_length = len(document)
        self._state = self._read_after_value

    def _fail(self, pos: int) -> int:
        self.is_valid = False
        return pos

    def _mark_safe(self, pos: int) -> None:
        self.safe_length = self._offset + pos

    def _read_value(self, piece: str, pos: int) -> int:
        pos = skip(_SPACE, piece, pos)
        if pos == len(piece):
            return pos
        character = piece[pos]
        if character in _CLOSERS:
            return self._open_container(character, pos)
        if character == '"':
            self._state, self._is_key = self._read_string, False
            if self._watched_members and len(self._closers) == 1:
                self._check_member()
        elif character in _LITERALS:
            self._state, self._token = self._read_literal, _LITERALS[character]
        elif character in _CHARACTER_CLASSES:
            self._state, self._token = self._read_number, "start"
            return pos
        else:
            return self._fail(pos)
        return pos + 1

    def _open_container(self, bracket: str, pos: int) -> int:
        if len(self._closers) == _MAX_DEPTH:
            return self._fail(pos)
        self._closers.append(_CLOSERS[bracket])
        self._state = self._read_first_member
        self._mark_safe(pos + 1)
        return pos + 1

    def _read_first_member(self, piece: str, pos: int) -> int:
        """Read the closing bracket of an empty container, or change to the state `member`."""
        pos = skip(_SPACE, piece, pos)
        if pos == len(piece):
            return pos
        if piece[pos] == self._closers[-1]:
            return self._close_container(pos)
        self._state = self._read_member
        return pos

    def _read_member(self, piece: str, pos: int) -> int:
        """Read the opening quote of a key; in an array, change to the state `value`."""
        if self._closers[-1] == "]":
            self._state = self._read_value
            return pos
        pos = skip(_SPACE, piece, pos)
        if pos == len(piece):
            return pos
        if piece[pos] != '"':
            return self._fail(pos)
        self._state, self._is_key = self._read_string, True
        self._key = []
        return pos + 1

    def _check_member(self) -> None:
        """Note the start of a string in a watched member."""
        if self.length_before_string is None and "".join(self._key) in self._watched_members:
            self.length_before_string = self.safe_length

    def _close_container(self, pos: int) -> int:
        self._closers.pop()
        self._end_value(pos + 1)
        return pos + 1

    def _end_value(self, pos: int) -> None:
        self._state, self._is_safe_in_string = self._read_after_value, False
        self._mark_safe(pos)

    def _read_after_value(self, piece: str, pos: int) -> int:
        """Read a comma or a closing bracket. After the document, only white space is valid."""
        pos = skip(_SPACE, piece, pos)
        if pos == len(piece):
            return pos
        if self._closers and piece[pos] == self._closers[-1]:
            return self._close_container(pos)
        if not self._closers or piece[pos] != ",":
            return self._fail(pos)
        self._state = self._read_member
        return pos + 1

    def _read_string(self, piece: str, pos: int) -> int:
        if self._has_high_surrogate:
            return self._read_low_surrogate(piece, pos)
        end = skip(_PLAIN, piece, pos)
        if end > pos:
            self._mark_in_string(end)
            if self._is_key and self._watched_members:
                self._key.append(piece[pos:end])
        if end == len(piece):
            return end
        if piece[end] == "\\":
            self._state = self._read_escape
        elif piece[end] != '"':
            return self._fail(end)
        elif self._is_key:
            self._state = self._read_colon
        else:
            self._end_value(end + 1)
        return end + 1

    def _read_low_surrogate(self, piece: str, pos: int) -> int:
        """Read the backslash that must follow an escaped high surrogate."""
        if piece[pos] != "\\":
            return self._fail(pos)
        self._state = self._read_escape
        return pos + 1

    def _mark_in_string(self, pos: int) -> None:
        if not self._is_key:
            self._is_safe_in_string = True
            self._mark_safe(pos)

    def _read_escape(self, piece: str, pos: int) -> int:
        if piece[pos] == "u":
            self._state, self._token = self._read_code_point, ""
        elif piece[pos] in _ESCAPED and not self._has_high_surrogate:
            self._state = self._read_string
            self._mark_in_string(pos + 1)
        else:
            return self._fail(pos)
        return pos + 1

    def _read_code_point(self, piece: str, pos: int) -> int:
        if piece[pos] not in _HEX_DIGITS:
            return self._fail(pos)
        self._token += piece[pos]
        if len(self._token) == 4:
            return self._end_code_point(pos)
        return pos + 1

    def _end_code_point(self, pos: int) -> int:
        """End an escaped character. The position after a high surrogate is not safe."""
        code = int(self._token, 16)
        if (0xDC00 <= code < 0xE000) != self._has_high_surrogate:
            return self._fail(pos)
        self._state, self._has_high_surrogate = self._read_string, 0xD800 <= code < 0xDC00
        if not self._has_high_surrogate:
            self._mark_in_string(pos + 1)
        return pos + 1

    def _read_colon(self, piece: str, pos: int) -> int:
        pos = skip(_SPACE, piece, pos)
        if pos == len(piece):
            return pos
        if piece[pos] != ":":
            return self._fail(pos)
        self._state = self._read_value
        return pos + 1

    def _read_number(self, piece: str, pos: int) -> int:
        step = _NUMBER_STATES[self._token].get(_CHARACTER_CLASSES.get(piece[pos], ""))
        if step is None:
            if self._token not in _NUMBER_ENDS:
                return self._fail(pos)
            self._end_value(pos)
            return pos
        self._token = step
        if step in _DIGIT_RUNS:
            return skip(_DIGITS, piece, pos + 1)
        return pos + 1

    def _read_literal(self, piece: str, pos: int) -> int:
        if piece[pos] != self._token[0]:
            return self._fail(pos)
        self._token = self._token[1:]
        if not self._token:
            self._end_value(pos + 1)
        return pos + 1


def skip(pattern: re.Pattern[str], text: str, pos: int) -> int:
    """Return the end of the pattern's match at text[pos:], or `pos` if it does not match."""
    match = pattern.match(text, pos)
    return match.end() if match else pos
