"""Handle signals during startup, before the server handles them.

The imports alone take most of a second. By default SIGHUP would end the process. A handler records
it instead, and the server reloads the configuration as soon as it runs: the process may have read
the files before the change that the signal reports. SIGTERM and SIGINT end the process with exit
code 0, as they do later. The signals are handled, not ignored, because child processes inherit
ignored signals.

SIGHUP also arrives when the terminal is closed. In this case a server that was started in the
terminal must exit, unless it was started by `nohup`.
"""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


class _HangupHandler:
    """A SIGHUP handler that records whether it was called, and the previous handler."""

    def __init__(self, *, has_terminal: bool) -> None:
        self.was_called = False
        self.previous_handler = signal.getsignal(signal.SIGHUP)
        # `nohup` starts programs with the signal ignored.
        self.ends_with_terminal = has_terminal and self.previous_handler != signal.SIG_IGN

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.was_called = True


def install_handlers() -> None:
    """Handle SIGHUP, SIGTERM and SIGINT during startup. Call this in the main thread."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, _HangupHandler(has_terminal=_has_terminal()))
        signal.signal(signal.SIGTERM, _exit)
        # Shells start background jobs with SIGINT ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _exit)


def restore_handlers() -> None:
    """Restore the default behavior, for commands other than the server.

    All signals end the process, except SIGHUP under `nohup`.
    """
    if sys.platform == "win32":
        return
    handler = signal.getsignal(signal.SIGHUP)
    if isinstance(handler, _HangupHandler):
        signal.signal(signal.SIGHUP, handler.previous_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def detach() -> None:
    """Record that this process is detached: closing the terminal does not end it."""
    handler = _get_hangup_handler()
    if handler is not None:
        handler.ends_with_terminal = False


def _get_hangup_handler() -> _HangupHandler | None:
    handler = None if sys.platform == "win32" else signal.getsignal(signal.SIGHUP)
    return handler if isinstance(handler, _HangupHandler) else None


class EarlyHangup:
    """A SIGHUP during startup.

    Create it while the handlers of `install_handlers` are installed. It remains valid when other
    handlers replace them.
    """

    def __init__(self) -> None:
        self._handler = _get_hangup_handler()

    @property
    def was_received(self) -> bool:
        """True if the signal was received."""
        return self._handler is not None and self._handler.was_called

    def is_end_of_terminal(self) -> bool:
        """Return whether a SIGHUP that has just arrived was caused by closing the terminal."""
        if self._handler is None or not self._handler.ends_with_terminal:
            return False
        return not _has_terminal()


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal that is not closed."""
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
        return True
    return False


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
