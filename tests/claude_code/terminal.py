"""A shell in a terminal, typed into and read from as a person does."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.claude_code.screen import Screen
from tests.support.running_command import until

ROWS, COLUMNS = 40, 120
SECONDS = 60
PROMPT = "shell$ "
_BYTES = 65536


class Terminal:
    """`raw` holds all that was written to it; `screen` what it shows."""

    def __init__(self, descriptor: int) -> None:
        self.raw = b""
        self.screen = Screen(ROWS, COLUMNS)
        self._descriptor = descriptor

    def type(self, text: str) -> None:
        """Type text, without a line's end."""
        os.write(self._descriptor, text.encode())

    def wait_for_prompt(self) -> None:
        """Wait until the shell has printed its prompt and nothing else in its line."""
        self._wait(lambda: self.screen.text.rstrip().endswith(PROMPT.strip()), "the shell's prompt")

    def enter(self, text: str) -> None:
        """Type text, wait until it is on the screen, and press Enter."""
        self.type(text)
        self.wait_for(text[-30:])
        self.type("\r")

    def wait_for(self, text: str) -> None:
        """Wait until `text` is on the screen, in a line or broken over several."""
        wanted = "".join(text.split())
        self._wait(lambda: wanted in "".join(self.screen.text.split()), repr(text))

    def _wait(self, is_shown: Callable[[], bool], what: str) -> None:
        def is_shown_now() -> bool:
            self.read()
            return is_shown()

        try:
            until(is_shown_now, f"the terminal shows {what}", SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen.transcript}") from None

    def read(self) -> None:
        """Read what has been written to the terminal by now."""
        while select.select([self._descriptor], [], [], 0)[0]:
            try:
                data = os.read(self._descriptor, _BYTES)
            except OSError:  # Linux: all programs of the terminal have ended
                return
            if not data:
                return
            self.raw += data
            self.screen.feed(data)


@contextlib.contextmanager
def shell(folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """An interactive shell in `folder`; its programs are killed at the end, unless they left the
    terminal.
    """
    child, descriptor = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {**environment, "TERM": "xterm-256color", "PS1": PROMPT}
        os.execve("/bin/sh", ["sh", "-i"], environment)  # noqa: S606 - a shell is wanted
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        yield Terminal(descriptor)
    finally:
        # The end of the terminal hangs up its programs; the shell may ignore that for itself.
        os.close(descriptor)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
