"""Running in the background: PID file, log file, start, stop, status (Unix).

The PID file is locked (flock) for as long as the server lives, so the lock and not the number in it says whether the
server runs: a number left by a crash may belong to somebody else's process by now, and is never signalled. python-daemon
does the detaching; the lock is taken before and survives it, as children inherit it. A pipe tells the parent how the
start went, so that it returns success only when connections are accepted.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

if sys.platform != "win32":
    import fcntl

    from daemon import DaemonContext

PID_FILE = Path("/tmp/anthropic-proxy.pid")  # noqa: S108 - documented default; opened without following links
LOG_FILE = Path("/tmp/anthropic-proxy.log")  # noqa: S108 - the same

_UMASK = 0o027
_POLL_SECONDS = 0.05
_LOCK_TRIES = 4


class DaemonError(Exception):
    """Starting or stopping failed; the text says why."""


class MissingFileError(DaemonError):
    """A file that should be looked into is not there."""


@dataclass(frozen=True)
class Status:
    """running: the PID of the server that holds the lock. stale: a PID left by one that is gone. invalid: what stands in
    the file instead of a number. All None: there is no PID file.
    """

    running: int | None = None
    stale: int | None = None
    invalid: str | None = None


class PidFile:
    """A locked PID file; `acquire` makes one. It is unlocked and removed by `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> "PidFile":
        """Lock `path` for this process and its children. Raises DaemonError when a server runs on it already."""
        tries_left = _LOCK_TRIES
        while True:
            descriptor = _open(path, os.O_RDWR | os.O_CREAT, 0o644)
            locked = _lock(descriptor, fcntl.LOCK_EX)
            if locked and _same_file(path, descriptor):
                return cls(path, descriptor)
            running = _text(descriptor)
            # Not locked: by a server, or for a moment by somebody who looks. Locked: a server that ended just now has
            # removed what we locked.
            os.close(descriptor)
            tries_left -= 1
            if not tries_left:
                raise DaemonError(f"Daemon is already running (PID: {running}) with PID file {path}")
            time.sleep(0 if locked else _POLL_SECONDS)

    def write(self, pid: int) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file, then give up the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def start(serve: Callable[[Callable[[str], None]], None], pid_path: Path, log_path: Path) -> str:
    """Run `serve` in the background; return the address that it listens on, once it does.

    `serve` gets a function that it calls with this address when it accepts connections, and runs until the server
    stops. Raises DaemonError with the reason when it ends before that.
    """
    log = _open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    pid_file = PidFile.acquire(pid_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _detached(serve, pid_file, log, writer)
    os.close(writer)
    os.close(log)
    os.close(pid_file.descriptor)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        outcome, _, text = pipe.read().partition(" ")
    if outcome != "ready":
        raise DaemonError(text or f"the server ended before it listened: see {log_path}")
    return text


def _detached(serve: Callable[[Callable[[str], None]], None], pid_file: PidFile, log: int, writer: int) -> NoReturn:
    """The child's side of `start`; its own parent is gone when python-daemon returns."""

    def ready(address: str) -> None:
        os.write(writer, f"ready {address}".encode())
        os.close(writer)

    log_stream = os.fdopen(log, "a", buffering=1, encoding="utf-8")
    context = DaemonContext(
        working_directory=Path.cwd(),
        umask=_UMASK,
        stdout=log_stream,
        stderr=log_stream,
        files_preserve=[pid_file.descriptor, writer, log_stream],
        detach_process=True,
    )
    code = 0
    try:
        context.open()
        pid_file.write(os.getpid())
        serve(ready)
    except BaseException as error:  # noqa: BLE001 - the parent waits to be told, whatever it was
        code = 1
        log_stream.write(f"✗ {error}\n")
        with contextlib.suppress(OSError):  # closed when the server listened already
            os.write(writer, f"failed {error}".encode())
    pid_file.release()
    os._exit(code)


def status(pid_path: Path) -> Status:
    """Who holds the PID file, if anybody. Raises DaemonError when it can't be read."""
    try:
        descriptor = _open(pid_path, os.O_RDWR)
    except MissingFileError:
        return Status()
    try:
        # A shared lock: two that look don't hinder each other.
        held = not _lock(descriptor, fcntl.LOCK_SH)
        text = _text(descriptor)
    finally:
        os.close(descriptor)
    if not text.isdecimal() or int(text) == 0:
        return Status(invalid=text)
    return Status(running=int(text)) if held else Status(stale=int(text))


def stop(pid_path: Path, pid: int, timeout: float) -> None:
    """Ask the running server to end, and wait until it has, `timeout` seconds at most. Raises DaemonError."""
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise DaemonError(f"Failed to stop daemon (PID: {pid}): {error.strerror}") from error
    deadline = time.monotonic() + timeout
    while status(pid_path).running == pid:
        if time.monotonic() > deadline:
            raise DaemonError(f"Daemon (PID: {pid}) is still finishing open requests after {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def _open(path: Path, flags: int, mode: int = 0) -> int:
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileNotFoundError as error:
        raise MissingFileError(f"can't open {path}: {error.strerror}") from error
    except OSError as error:
        raise DaemonError(f"can't open {path}: {error.strerror}") from error


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int) -> bool:
    """Take the lock if nobody has it. It goes with the descriptor."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
