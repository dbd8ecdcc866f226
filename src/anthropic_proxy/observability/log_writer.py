"""Write log lines in a thread, so that a stalled reader (`2>&1 | less`) never blocks the server.

A write to a full pipe (64 KB) blocks. Lines therefore wait in a bounded queue. When the queue is
full, lines are dropped and counted, and a later line reports their number. Each line is written to
the file descriptor in one call, because other processes share the descriptor. A buffered stream has
a lock, which may be held when this process forks. QueueListener of logging.handlers does not limit
the bytes, does not report dropped lines, and does not survive a fork.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

# A request logs a few hundred bytes, or with --verbose its complete body.
MAX_LINES = 10_000
MAX_BYTES = 4 * 1024 * 1024

# Seconds that the process waits for queued lines before it exits.
FLUSH_SECONDS = 1.0


class LogWriter:
    """Output stream for loggers. It is thread-safe and can be used after a fork."""

    def __init__(
        self, descriptor: int, encoding: str, format_drop_note: Callable[[int], str]
    ) -> None:
        """Create a writer. format_drop_note: returns a line that reports dropped lines."""
        self._descriptor = descriptor
        self._encoding = encoding
        self._format_drop_note = format_drop_note
        self._on_drop: Callable[[int], object] | None = None
        self._reset()

    def write(self, text: str) -> int:
        """Queue a line, or drop it if the queue is full. Does not block."""
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
        """Wait up to `seconds` until all lines have been written."""
        if self._pid != os.getpid():
            return
        with self._condition:
            self._condition.wait_for(lambda: not (self._lines or self._is_writing), seconds)

    def count_drops(self, on_drop: Callable[[int], object]) -> None:
        """Call `on_drop` with the number of lines dropped so far, and again after later drops."""
        self._reset_after_fork()
        with self._condition:
            self._on_drop, total = on_drop, self._total_dropped
        if total:
            on_drop(total)

    def _reset_after_fork(self) -> None:
        """Reset after a fork: lines and thread belong to the parent, and the lock may be held."""
        if self._pid != os.getpid():
            self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._condition = threading.Condition()
        # Each line, with the number of lines dropped immediately before it.
        self._lines: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._total_dropped = 0
        self._is_full = False
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def _has_room(self, size: int) -> bool:
        """Return whether the queue has room for a line of `size` bytes.

        An empty queue accepts a line of any size. After a drop, half of the queue must be free;
        otherwise every second line would report a drop.
        """
        if not self._lines:
            return True
        share = 2 if self._is_full else 1
        if len(self._lines) * share >= MAX_LINES:
            return False
        return (self._bytes + size) * share <= MAX_BYTES

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
        """Write a line that reports dropped lines. If this fails, the next line reports them."""
        if not dropped:
            return
        note = self._format_drop_note(dropped).encode(self._encoding, "backslashreplace")
        if not self._try_write(note):
            with self._condition:
                self._dropped += dropped

    def _try_write(self, line: bytes) -> bool:
        """Write a line. Return False if the reader has exited (`| head`) or the disk is full."""
        try:
            while line:
                line = line[self._write_part(line) :]
        except (OSError, ValueError):
            # `select` raises ValueError for a descriptor that is closed or very large.
            return False
        return True

    def _write_part(self, line: bytes) -> int:
        """Write a part of a line, and return its size in bytes. Blocks until writing is possible.

        Raises OSError.
        """
        try:
            return os.write(self._descriptor, line)
        except BlockingIOError:
            # Another process that shares the terminal or pipe, such as Node.js, has made it
            # non-blocking.
            select.select([], [self._descriptor], [])
            return 0
