"""Running in the background: PID file, log file, start, stop, status (Unix).

The PID file is locked (flock) for as long as the server lives, so the lock and not the number in it says whether the
server runs: a number left by a crash may belong to somebody else's process by now, and is never signalled. python-daemon
does the detaching; the lock is taken before and survives it, as children inherit it.

The server reports to the command that started it through a pipe: lines of JSON, each an object with one member. The
command does not wait for the end of the pipe, because workers inherit the write end and keep it open.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from anthropic_proxy.server import early_signals
from anthropic_proxy.wire.json_codec import dumps, loads

if sys.platform != "win32":
    import fcntl

    from daemon import DaemonContext

_NAME = "anthropic-proxy"
# For users without directories of their own. Files are opened without following links.
_SHARED_DIRECTORY = Path("/tmp")  # noqa: S108 - see above
# Where the PID file of every user was before.
_OLD_PID_FILE = _SHARED_DIRECTORY / f"{_NAME}.pid"
_LONGEST_DETAILS = 64 * 1024

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


def pid_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the places of the PID file where none is given: the one that is written first, then those that are read."""
    of_user = _SHARED_DIRECTORY / f"{_NAME}-{os.getuid()}.pid"
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir():
        return (runtime / f"{_NAME}.pid", of_user, _OLD_PID_FILE)
    return (of_user, _OLD_PID_FILE)


def log_file(environment: Mapping[str, str]) -> Path:
    """Return the place of the log, whose directory is made: `~/.local/state`, or another one of the user's."""
    given = Path(environment.get("XDG_STATE_HOME", ""))
    try:
        state = given if given.is_absolute() else Path.home() / ".local" / "state"
        directory = state / _NAME
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_usable = os.access(directory, os.W_OK)
    except (OSError, RuntimeError):  # a user without a home, as containers have them
        is_usable = False
    return (
        directory / f"{_NAME}.log"
        if is_usable
        else _SHARED_DIRECTORY / f"{_NAME}-{os.getuid()}.log"
    )


def find_pid_file(environment: Mapping[str, str]) -> Path:
    """Return the first of `pid_files` whose server runs, else the first that there is, else the one that is written."""
    existing: list[Path] = []
    for path in pid_files(environment):
        try:
            found = status(path)
        except DaemonError:  # another user's
            continue
        if found.running is not None:
            return path
        if found != Status():
            existing.append(path)
    return next(iter([*existing, *pid_files(environment)]))


@dataclass(frozen=True)
class Details:
    """What `status` shows of a server besides its PID. started: seconds since 1970."""

    pid: int
    address: str
    upstreams: tuple[str, ...]
    log: str
    started: float

    def write(self, pid_file: Path) -> None:
        """Write them beside the PID file. Nothing depends on them, so a full disk is no error."""
        with contextlib.suppress(OSError, DaemonError):
            descriptor = _open(
                _details_path(pid_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(dumps(asdict(self)))

    @classmethod
    def read(cls, pid_file: Path, pid: int) -> "Details | None":
        """Return those of the server with a PID; None where there are none."""
        try:
            with os.fdopen(_open(_details_path(pid_file), os.O_RDONLY), "rb") as file:
                found = loads(file.read(_LONGEST_DETAILS))
            details = cls(**{**found, "upstreams": tuple(map(str, found["upstreams"]))})
        except (DaemonError, OSError, ValueError, TypeError, KeyError):
            return None
        return details if details.pid == pid else None


def _details_path(pid_file: Path) -> Path:
    return pid_file.with_name(f"{pid_file.name}.json")


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
                raise DaemonError(
                    f"Daemon is already running (PID: {running}) with PID file {path}"
                )
            time.sleep(0 if locked else _POLL_SECONDS)

    def write(self, pid: int) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file and the details beside it, then give up the lock."""
        _details_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def start(
    serve: Callable[[Callable[[str], None]], None],
    pid_path: Path,
    log_path: Path,
    upstreams: Sequence[str] = (),
    report: Callable[[str], object] = lambda reason: sys.stderr.write(f"✗ {reason}\n"),
) -> str:
    """Run `serve` in the background; return the address that it listens on, once it does.

    `serve` gets a function that it calls with this address when it accepts connections, and runs until the server
    stops. upstreams: addresses, for `status`. report: writes to the log why the server failed. Raises DaemonError with the
    reason when it ends before it listens.
    """
    log = _open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    pid_file = PidFile.acquire(pid_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def ready(address: str) -> None:
            Details(os.getpid(), address, tuple(upstreams), str(log_path), time.time()).write(
                pid_path
            )
            _send(writer, "listening", address)

        _detached(partial(serve, ready), pid_file, log, writer, report)
    os.close(writer)
    os.close(log)
    os.close(pid_file.descriptor)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        line = pipe.readline()
    message = loads(line) if line.endswith(b"\n") else {}
    if "listening" not in message:
        reason = message.get("failed")
        raise DaemonError(reason or f"the server ended before it listened: see {log_path}")
    return str(message["listening"])


def _send(writer: int, kind: str, value: object) -> None:
    """Send a message to the command that started this server. The command may be gone."""
    with contextlib.suppress(OSError):
        os.write(writer, dumps({kind: value}) + b"\n")


def _detached(
    serve: Callable[[], None],
    pid_file: PidFile,
    log: int,
    writer: int,
    report: Callable[[str], object],
) -> NoReturn:
    """The child's side of `start`; its own parent is gone when python-daemon returns."""
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
        early_signals.detach()
        pid_file.write(os.getpid())
        serve()
    except BaseException as error:  # noqa: BLE001 - the parent waits to be told, whatever it was
        code = 1
        report(str(error))
        _send(writer, "failed", str(error))
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
            raise DaemonError(
                f"Daemon (PID: {pid}) is still finishing open requests after {timeout:g} s"
            )
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
