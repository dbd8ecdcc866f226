"""The screen shows what a terminal shows."""

import pytest

from tests.claude_code.screen import Screen

ROWS, COLUMNS = 4, 10

CASES = {
    "text": (b"ab\r\ncd", "ab\ncd"),
    "overwritten": (b"abc\rX", "Xbc"),
    "backspace": (b"abc\b\bX", "aXc"),
    "tab": (b"a\tb", "a       b"),
    "wrapped": (b"0123456789ab", "0123456789\nab"),
    "full-line": (b"0123456789\r\nab", "0123456789\nab"),
    "colours": (b"\x1b[38;5;174m\x1b[1ma\x1b[mb", "ab"),
    "underlined": (b"\x1b[4:3ma", "a"),
    "home": (b"abc\x1b[HX", "Xbc"),
    "position": (b"\x1b[2;3HX\x1b[1;1fY", "Y\n  X"),
    "column": (b"abc\x1b[2GX", "aXc"),
    "row": (b"ab\x1b[3dX", "ab\n\n  X"),
    "relative": (b"\x1b[2B\x1b[3CX\x1b[A\x1b[2DY", "\n  Y\n   X"),
    "next-line": (b"ab\x1b[EX\x1b[FY", "Yb\nX"),
    "out-of-range": (b"\x1b[99;99HX\x1b[99A\x1b[99DY", "Y\n\n\n         X"),
    "line-erased-after": (b"abc\x1b[2G\x1b[K", "a"),
    "line-erased-before": (b"abc\x1b[2G\x1b[1K", "  c"),
    "line-erased": (b"abc\x1b[2KX", "   X"),
    "screen-erased-after": (b"ab\r\ncd\r\nef\x1b[2;2H\x1b[J", "ab\nc"),
    "screen-erased-before": (b"ab\r\ncd\r\nef\x1b[2;1H\x1b[1J", "\n d\nef"),
    "screen-erased": (b"ab\r\ncd\x1b[2J", ""),
    "title": (b"\x1b]0;a title\x07a\x1b]8;;https://example.com\x1b\\b", "ab"),
    "modes": (b"\x1b[?25l\x1b[?2004h\x1b[>0q\x1b[?u\x1b[ca", "a"),
    "device-control": (b"\x1bP+q544e\x1b\\a", "a"),
    "character-set": (b"\x1b(B\x1b7a\x1b8\x1b=b", "ab"),
    "wide-and-broken": ("●é\ufffd".encode() + b"\xff", "●é\ufffd\ufffd"),
    "own-screen": (b"shell\x1b[?1049h\x1b[Hfull\x1b[?1049l$", "shell$"),
    "in-own-screen": (b"shell\x1b[?1049h\x1b[Hfull", "full"),
}


@pytest.mark.parametrize(("data", "shown"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("size", [1, 2, 1000], ids=["bytes", "pairs", "whole"])
def test_it_shows(data: bytes, shown: str, size: int) -> None:
    screen = Screen(ROWS, COLUMNS)
    for start in range(0, len(data), size):
        screen.feed(data[start : start + size])
    assert screen.text.rstrip("\n") == shown


def test_lines_that_scroll_away_are_kept() -> None:
    screen = Screen(ROWS, COLUMNS)
    screen.feed(b"\r\n".join(b"%d" % number for number in range(7)))
    assert screen.text == "3\n4\n5\n6"
    assert screen.transcript == "0\n1\n2\n3\n4\n5\n6"
