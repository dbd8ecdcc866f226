"""The screen of a terminal after programs have written to it: only the parts of ECMA-48 that Claude
Code and a shell use.

Colours, titles and modes are read and ignored. `scrolled` has the lines that left the screen.
"""

import codecs
import re

_SEQUENCE = re.compile(
    # CSI: cursor, erasing, colours, modes
    r"\x1b\[(?P<parameters>[0-9:;<=>?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles and links
    r"|\x1b[P_^][^\x1b]*\x1b\\"  # DCS, APC, PM
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"  # the rest: save, restore, keypad
)
_ALTERNATE = ("?1049", "?1047", "?47")


class Screen:
    """A grid of characters and a cursor. Each character takes one column."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.scrolled: list[str] = []
        self._grid = self._blank()
        self._row = self._column = 0
        self._main = (self._grid, self._row, self._column)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unread = ""

    @property
    def text(self) -> str:
        """The lines on the screen, without spaces at their ends."""
        return "\n".join("".join(row).rstrip() for row in self._grid)

    @property
    def transcript(self) -> str:
        """All lines of the screen, with those before it that have scrolled away."""
        return "\n".join([*self.scrolled, self.text])

    def feed(self, data: bytes) -> None:
        """Show bytes; a sequence may be split over several calls."""
        text = self._unread + self._decoder.decode(data)
        self._unread = ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._show(text[at])
                at += 1
                continue
            found = _SEQUENCE.match(text, at)
            if found is None:
                self._unread = text[at:]
                return
            if found["final"]:
                self._control(found["final"], found["parameters"])
            at = found.end()

    def _blank(self) -> list[list[str]]:
        return [[" "] * self.columns for _ in range(self.rows)]

    def _show(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._feed_line()
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(self.columns - 1, (self._column // 8 + 1) * 8)
        elif character >= " ":
            if self._column == self.columns:
                self._column = 0
                self._feed_line()
            self._grid[self._row][self._column] = character
            self._column += 1

    def _feed_line(self) -> None:
        if self._row < self.rows - 1:
            self._row += 1
            return
        self.scrolled.append("".join(self._grid.pop(0)).rstrip())
        self._grid.append([" "] * self.columns)

    def _control(self, final: str, parameters: str) -> None:
        if final in "hl":
            if parameters in _ALTERNATE:
                self._switch(alternate=final == "h")
            return
        numbers = [int(number) for number in parameters.split(";") if number.isdigit()]
        first = numbers[0] if numbers else 0
        if final in "JK":
            self._erase(final, first)
        else:
            self._move(final, max(1, first), max(1, *numbers[1:2], 1))

    def _switch(self, *, alternate: bool) -> None:
        """Switch between the main screen and the one of programs that fill the screen."""
        if alternate:
            self._main = (self._grid, self._row, self._column)
            self._grid = self._blank()
        else:
            self._grid, self._row, self._column = self._main

    def _move(self, final: str, first: int, second: int) -> None:
        row, column = self._row, self._column
        if final in "AF":
            row -= first
        elif final in "BE":
            row += first
        elif final == "C":
            column += first
        elif final == "D":
            column -= first
        elif final == "G":
            column = first - 1
        elif final == "d":
            row = first - 1
        elif final in "Hf":
            row, column = first - 1, second - 1
        if final in "EF":
            column = 0
        self._row = min(max(row, 0), self.rows - 1)
        self._column = min(max(column, 0), self.columns - 1) if final in "CDEFGHf" else self._column

    def _erase(self, final: str, part: int) -> None:
        """Blank the line (K) or the screen (J): 0 after the cursor, 1 before it, 2 all."""
        row = self._grid[self._row]
        cursor = min(self._column, self.columns - 1)
        start, end = {0: (cursor, self.columns), 1: (0, cursor + 1)}.get(part, (0, self.columns))
        row[start:end] = [" "] * (end - start)
        if final == "K":
            return
        for number, other in enumerate(self._grid):
            is_erased = part >= 2 or (number > self._row if part == 0 else number < self._row)
            if is_erased:
                other[:] = [" "] * self.columns
