"""Writes log lines in a thread, so that a reader that does not read (`2>&1 | less`) never stops the server.

A pipe holds 64 KB; then a write waits. Lines wait in a bounded queue instead. When it is full they are dropped and counted,
and a line reports their number, at their place, when writing works again. Lines are written to the file descriptor, each
in one call: other processes share it, and a lock of a buffered stream could be held while this process forks.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

# A request logs some hundred bytes; with --verbose, whole bodies.
MAX_LINES = 10_000
MAX_BYTES = 4 * 1024 * 1024

# Seconds that the end of the process waits for lines to be written.
FLUSH_SECONDS = 1.0


class LogWriter:
    """A stream for loggers. Lines are written in the order of `write`. May be used by several threads, and after a fork."""

    def __init__(
        self, descriptor: int, encoding: str, format_drop_note: Callable[[int], str]
    ) -> None:
        """format_drop_note: returns the line that reports a number of dropped lines."""
        self._descriptor = descriptor
        self._encoding = encoding
        self._format_drop_note = format_drop_note
        self._on_drop: Callable[[int], object] | None = None
        self._reset()

    def write(self, text: str) -> int:
        """Queue a line, or drop it when the queue is full. Never waits."""
        line = text.encode(self._encoding, "backslashreplace")
        self._reset_after_fork()
        with self._condition:
            is_full = self._is_full = not self._has_room(len(line))
            if not is_full:
                self._append(line)
        if is_full:
            self._record_drops(1)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written as soon as possible. See `drain`."""

    def drain(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until all lines are written, `seconds` at most."""
        if self._pid != os.getpid():
            return
        with self._condition:
            self._condition.wait_for(lambda: not (self._lines or self._is_writing), seconds)

    def count_drops(self, on_drop: Callable[[int], object]) -> None:
        """Call `on_drop` with the number of lines that this process has dropped so far, and with each further number."""
        self._reset_after_fork()
        with self._condition:
            self._on_drop, total = on_drop, self._total_dropped
        if total:
            on_drop(total)

    def _reset_after_fork(self) -> None:
        """Begin anew in a forked process: lines and thread are its parent's, and the lock may have been held then."""
        if self._pid != os.getpid():
            self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._condition = threading.Condition()
        # Each line with the number of lines that were dropped just before it.
        self._lines: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._total_dropped = 0
        self._is_full = False
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def _has_room(self, size: int) -> bool:
        """Whether a line is taken. After a drop, only when half of the queue is free: else every other line would report a
        drop. A single line may have any size.
        """
        if not self._lines:
            return True
        share = 2 if self._is_full else 1
        return len(self._lines) * share < MAX_LINES and (self._bytes + size) * share <= MAX_BYTES

    def _append(self, line: bytes) -> None:
        self._lines.append((self._dropped, line))
        self._dropped = 0
        self._bytes += len(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def _record_drops(self, number: int) -> None:
        with self._condition:
            self._dropped += number
            self._total_dropped += number
            on_drop = self._on_drop
        if on_drop is not None:
            on_drop(number)

    def _run(self) -> None:
        while True:
            dropped, line = self._take_line()
            self._report_drops(dropped)
            if not self._try_write(line):
                self._record_drops(1)
                continue
            with self._condition:
                dropped = 0 if self._lines else self._dropped
                self._dropped -= dropped
            self._report_drops(dropped)

    def _take_line(self) -> tuple[int, bytes]:
        with self._condition:
            self._is_writing = False
            self._condition.notify_all()
            self._condition.wait_for(lambda: bool(self._lines))
            self._is_writing = True
            dropped, line = self._lines.popleft()
            self._bytes -= len(line)
            return dropped, line

    def _report_drops(self, dropped: int) -> None:
        """Write a line on dropped lines; where that fails, the next line says it."""
        if dropped and not self._try_write(
            self._format_drop_note(dropped).encode(self._encoding, "backslashreplace")
        ):
            with self._condition:
                self._dropped += dropped

    def _try_write(self, line: bytes) -> bool:
        """Write a line. False when that fails: the reader has gone (`2>&1 | head`), or the disk is full."""
        try:
            while line:
                line = line[self._write_part(line) :]
        except (
            OSError,
            ValueError,
        ):  # ValueError: `select` takes no descriptor that is closed or very large
            return False
        return True

    def _write_part(self, line: bytes) -> int:
        """Write the beginning of a line; return its size. Waits until the descriptor takes it. Raises OSError."""
        try:
            return os.write(self._descriptor, line)
        except BlockingIOError:
            # Another process that shares the terminal or pipe has made it non-blocking, as Node.js does.
            select.select([], [self._descriptor], [])
            return 0
