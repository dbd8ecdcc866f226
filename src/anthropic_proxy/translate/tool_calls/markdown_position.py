"""The position of a text in Markdown: the code block around it, and the indentation of its line."""

import re
from dataclasses import dataclass

FENCE_MARK = re.compile("```+|~~~+")
FENCE_CHARACTERS = "`~"
_BLANKS = re.compile(r"[ \t]*")
# CommonMark: lines with this indentation are code.
_CODE_INDENT = 4


def is_fence_mark(text: str) -> bool:
    """Return whether a marker consists of the characters of a code fence."""
    return text.startswith(("```", "~~~"))


@dataclass
class MarkdownPosition:
    """A position that moves forward through a text."""

    # whether only blanks precede the position on its line
    at_line_start: bool = True
    # the columns of these blanks
    indent: int = 0
    # the fence that opened the code block around the position; empty outside code blocks
    fence: str = ""

    @property
    def is_indented(self) -> bool:
        """True after blanks that start an indented code block."""
        return self.at_line_start and self.indent >= _CODE_INDENT

    def move(self, text: str, start: int, end: int) -> None:
        """Move from `start` to `end`. No fence is between them."""
        line_start = text.rfind("\n", start, end) + 1
        if line_start:
            self.at_line_start, self.indent, start = True, 0, line_start
        if not self.at_line_start:
            return
        blanks = _BLANKS.match(text, start, end)
        blanks_end = blanks.end() if blanks else start
        tabs = text.count("\t", start, blanks_end)
        self.indent += blanks_end - start + tabs * (_CODE_INDENT - 1)
        self.at_line_start = blanks_end == end

    def pass_mark(self, mark: str) -> None:
        """Move past a run of fence characters. At the line start, it opens or ends a block.

        A block ends at a fence of the same character that is at least as long (CommonMark).
        """
        if self.at_line_start:
            if not self.fence:
                self.fence = mark
            elif mark.startswith(self.fence):
                self.fence = ""
        self.at_line_start = False

    def read(self, text: str) -> None:
        """Move to the end of `text`."""
        pos = 0
        for mark in FENCE_MARK.finditer(text):
            self.move(text, pos, mark.start())
            self.pass_mark(mark[0])
            pos = mark.end()
        self.move(text, pos, len(text))
