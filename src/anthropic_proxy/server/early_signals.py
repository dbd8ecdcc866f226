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


class _HangupHandler:
    """A handler that remembers whether it was called, and the handler that it replaces."""

    def __init__(self, *, has_terminal: bool) -> None:
        """has_terminal: whether the process was started on a terminal."""
        self.was_called = False
        self.previous_handler = signal.getsignal(signal.SIGHUP)
        # `nohup` starts programs with the signal ignored.
        self.ends_with_terminal = has_terminal and self.previous_handler != signal.SIG_IGN

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.was_called = True


def install_handlers() -> None:
    """Handle SIGHUP, SIGTERM and SIGINT until the server does. To be called in the main thread."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, _HangupHandler(has_terminal=_has_terminal()))
        signal.signal(signal.SIGTERM, _exit)
        # Shells start background jobs with SIGINT ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _exit)


def restore_handlers() -> None:
    """Handle the signals as is usual for commands: all end the process, but not SIGHUP under `nohup`."""
    if sys.platform == "win32":
        return
    handler = signal.getsignal(signal.SIGHUP)
    if isinstance(handler, _HangupHandler):
        signal.signal(signal.SIGHUP, handler.previous_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def detach() -> None:
    """Record that this process has left its terminal, whose end therefore does not concern it."""
    held = None if sys.platform == "win32" else signal.getsignal(signal.SIGHUP)
    if isinstance(held, _HangupHandler):
        held.ends_with_terminal = False


class EarlyHangup:
    """A SIGHUP that arrives while `install_handlers` is in effect; `was_received` reports it also after another handler
    replaces that one."""

    def __init__(self) -> None:
        handler = None if sys.platform == "win32" else signal.getsignal(signal.SIGHUP)
        self._handler = handler if isinstance(handler, _HangupHandler) else None

    @property
    def was_received(self) -> bool:
        """Whether the signal was received."""
        return self._handler is not None and self._handler.was_called

    def is_end_of_terminal(self) -> bool:
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


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
