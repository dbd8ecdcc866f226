"""What the demo prints: plain lines, flushed at once; bold titles and a running clock only on a terminal."""

from typing import TextIO


class Screen:
    """Writes to `out`. It knows whether a line is open, so that an error can begin on a line of its own."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._is_line_open = False

    def write(self, text: str) -> None:
        """Write `text` as it is, and flush."""
        self._out.write(text)
        self._out.flush()
        if text:
            self._is_line_open = not text.endswith("\n")

    def write_line(self, text: str = "") -> None:
        """Write `text` and end the line."""
        self.write(f"{text}\n")

    def write_title(self, text: str) -> None:
        """An empty line, then a title."""
        self.write_line(f"\n\033[1m{text}\033[0m" if self._is_terminal else f"\n{text}")

    def end_line(self) -> None:
        """End the line if one is open."""
        if self._is_line_open:
            self.write_line()

    def show_waiting(self, activity: str, seconds: float) -> None:
        """Show that `what` takes its time: a clock on a terminal, one line that stays open elsewhere."""
        if self._is_terminal:
            self.write(f"\r{activity} ... {seconds:.1f} s")
        elif not self._is_line_open:
            self.write(f"{activity} ...")

    def show_ready(self) -> None:
        """End the line that `show_waiting` began."""
        self.write_line(" ready")
