"""The output of the demo: plain lines, and on a terminal also bold titles and a clock."""

from typing import TextIO


class Screen:
    """Write the output of the demo to a file, and flush it at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        # Whether the last line has no newline yet, so that an error must begin on a new line.
        self._is_line_open = False

    def write(self, text: str) -> None:
        """Write `text` and flush."""
        self._out.write(text)
        self._out.flush()
        if text:
            self._is_line_open = not text.endswith("\n")

    def write_line(self, text: str = "") -> None:
        """Write `text` and end the line."""
        self.write(f"{text}\n")

    def write_title(self, text: str) -> None:
        """Write an empty line and a title."""
        self.write_line(f"\n\033[1m{text}\033[0m" if self._is_terminal else f"\n{text}")

    def end_line(self) -> None:
        """End the current line, if it is open."""
        if self._is_line_open:
            self.write_line()

    def show_waiting(self, activity: str, seconds: float) -> None:
        """Show the progress of an activity: on a terminal with a clock, elsewhere in one line."""
        if self._is_terminal:
            self.write(f"\r{activity} ... {seconds:.1f} s")
        elif not self._is_line_open:
            self.write(f"{activity} ...")

    def show_ready(self) -> None:
        """End the line that `show_waiting` began."""
        self.write_line(" ready")
