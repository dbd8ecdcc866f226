"""Signals that come while the process starts, before the server handles them: the imports alone take most of a second.

SIGHUP would end the process. It is noted instead, and the configuration is read again once the server runs: what has been
read may be older than the change that the signal is about. SIGTERM and SIGINT end the process with exit code 0, as they do
later.
Handlers and not ignored signals, as programs that are started from here would inherit the latter.

A terminal that is closed sends SIGHUP as well. Then a server that was started on it has to end, unless `nohup` started it.
"""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


class _Hangup:
    """A handler that remembers whether it was called, and the handler that it replaces."""

    def __init__(self, *, has_terminal: bool) -> None:
        """has_terminal: whether the process was started on a terminal."""
        self.called = False
        self.before = signal.getsignal(signal.SIGHUP)
        # `nohup` starts programs with the signal ignored.
        self.ends_with_terminal = has_terminal and self.before != signal.SIG_IGN

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.called = True


def hold() -> None:
    """Handle SIGHUP, SIGTERM and SIGINT until the server does. To be called in the main thread."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, _Hangup(has_terminal=_has_terminal()))
        signal.signal(signal.SIGTERM, _end)
        # Shells start background jobs with SIGINT ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)


def release() -> None:
    """Handle the signals as is usual for commands: all end the process, but not SIGHUP under `nohup`."""
    if sys.platform == "win32":
        return
    held = signal.getsignal(signal.SIGHUP)
    if isinstance(held, _Hangup):
        signal.signal(signal.SIGHUP, held.before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def detach() -> None:
    """Record that this process has left its terminal, whose end therefore does not concern it."""
    held = None if sys.platform == "win32" else signal.getsignal(signal.SIGHUP)
    if isinstance(held, _Hangup):
        held.ends_with_terminal = False


class HeldHangup:
    """The SIGHUP that `hold` handles now. Other handlers may replace it; then `came` still reports what came before."""

    def __init__(self) -> None:
        handler = None if sys.platform == "win32" else signal.getsignal(signal.SIGHUP)
        self._handler = handler if isinstance(handler, _Hangup) else None

    @property
    def came(self) -> bool:
        """Whether the signal came."""
        return self._handler is not None and self._handler.called

    def means_end(self) -> bool:
        """Return whether a SIGHUP that came just now is the end of the terminal that the server was started on."""
        return (
            self._handler is not None and self._handler.ends_with_terminal and not _has_terminal()
        )


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal; one that was closed is taken away from its processes."""
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
        return True
    return False


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
