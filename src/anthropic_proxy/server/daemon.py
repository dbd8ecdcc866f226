"""Running in the background: PID file, log file, start, stop, status (Unix).

The PID file is locked (flock) for as long as the server lives, so the lock and not the number in it says whether the
server runs: a number left by a crash may belong to somebody else's process by now, and is never signalled. python-daemon
does the detaching; the lock is taken before and survives it, as children inherit it.

The server reports to the command that started it through a pipe: lines of JSON, each an object with one member. The
command does not wait for the end of the pipe, because workers inherit the write end and keep it open. The reports on the
upstreams are in a file beside the PID file as well, for `status`.
"""

import contextlib
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
_MAX_DETAILS_BYTES = 64 * 1024

_UMASK = 0o027
_POLL_SECONDS = 0.05
# How long a start waits for the probes of the upstreams, which are not needed for it to succeed.
_PROBE_SECONDS = 5.0
# A server without open requests ends sooner.
_NOTICE_SECONDS = 1.0
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


def default_pid_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the places of the PID file where none is given: the one that is written first, then those that are read."""
    user_file = _SHARED_DIRECTORY / f"{_NAME}-{os.getuid()}.pid"
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir():
        return (runtime / f"{_NAME}.pid", user_file, _OLD_PID_FILE)
    return (user_file, _OLD_PID_FILE)


def choose_log_file(environment: Mapping[str, str]) -> Path:
    """Return the place of the log, whose directory is made: `~/.local/state`, or another one of the user's."""
    state_home = Path(environment.get("XDG_STATE_HOME", ""))
    try:
        state = state_home if state_home.is_absolute() else Path.home() / ".local" / "state"
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
    """Return the first of `default_pid_files` whose server runs, else the first that exists, else the one to write."""
    existing: list[Path] = []
    for path in default_pid_files(environment):
        try:
            pid_status = read_status(path)
        except DaemonError:  # another user's
            continue
        if pid_status.running is not None:
            return path
        if pid_status != Status():
            existing.append(path)
    return next(iter([*existing, *default_pid_files(environment)]))


@dataclass(frozen=True)
class ServerDetails:
    """What `status` shows of a server besides its PID."""

    pid: int
    address: str
    upstreams: tuple[str, ...]
    log: str
    # Seconds since 1970.
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
    def read(cls, pid_file: Path, pid: int) -> "ServerDetails | None":
        """Return those of the server with a PID; None where there are none."""
        try:
            with os.fdopen(_open(_details_path(pid_file), os.O_RDONLY), "rb") as file:
                payload = loads(file.read(_MAX_DETAILS_BYTES))
            details = cls(**{**payload, "upstreams": tuple(map(str, payload["upstreams"]))})
        except (DaemonError, OSError, ValueError, TypeError, KeyError):
            return None
        return details if details.pid == pid else None


def _details_path(pid_file: Path) -> Path:
    return pid_file.with_name(f"{pid_file.name}.json")


@dataclass(frozen=True)
class Probes:
    """The outcome of the probe of each upstream, a line each, that the server with a PID reported last."""

    pid: int
    lines: tuple[str, ...]

    def write(self, pid_file: Path) -> None:
        """Write them beside the PID file. They are shown only, so a full disk is no error."""
        with contextlib.suppress(OSError, DaemonError):
            descriptor = _open(_probes_path(pid_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(dumps(asdict(self)))

    @classmethod
    def read(cls, pid_file: Path, pid: int) -> "Probes | None":
        """Return those of the server with a PID; None where there are none."""
        try:
            with os.fdopen(_open(_probes_path(pid_file), os.O_RDONLY), "rb") as file:
                document = loads(file.read(_MAX_DETAILS_BYTES))
            probes = cls(document["pid"], tuple(map(str, document["lines"])))
        except (DaemonError, OSError, ValueError, TypeError, KeyError):
            return None
        return probes if probes.pid == pid else None


def _probes_path(pid_file: Path) -> Path:
    return pid_file.with_name(f"{pid_file.name}.probes.json")


class Reports:
    """What the background server reports: to the command that started it, and in files for `status`.

    Workers get copies. The first one reports the probes, the process that started it the address.
    """

    def __init__(self, pipe: int, pid_file: Path, log: Path, upstreams: Sequence[str]) -> None:
        """pipe: the end to write to. upstreams: addresses."""
        self.pid = os.getpid()
        self.pipe = pipe
        self._pid_file = pid_file
        self._log = log
        self._upstreams = tuple(upstreams)
        self._has_sent_probes = False

    def listening(self, address: str) -> None:
        """Report that connections are accepted at an address."""
        ServerDetails(self.pid, address, self._upstreams, str(self._log), time.time()).write(
            self._pid_file
        )
        self._send("listening", address)

    def probed(self, lines: Sequence[str]) -> None:
        """Report the outcome of the probe of each upstream."""
        Probes(self.pid, tuple(lines)).write(self._pid_file)
        if not self._has_sent_probes:
            self._has_sent_probes = True
            self._send("probed", lines)

    def failed(self, reason: str) -> None:
        """Report why the server does not run."""
        self._send("failed", reason)

    def _send(self, kind: str, value: object) -> None:
        # The command that started the server may have ended.
        with contextlib.suppress(OSError):
            os.write(self.pipe, dumps({kind: value}) + b"\n")


class _Messages:
    """The other end of the pipe that `Reports` writes to."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._received = b""
        self._values: dict[str, object] = {}

    def wait_for(self, *kinds: str, seconds: float | None = None) -> Mapping[str, object]:
        """Return the messages so far, once there is one of these kinds, the pipe has ended, or the time is over."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not any(kind in self._values for kind in kinds):
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self._pipe], [], [], left)[0]:
                break
            received = os.read(self._pipe, 65536)
            if not received:
                break
            *lines, self._received = (self._received + received).split(b"\n")
            for line in lines:
                self._values.update(loads(line))
        return self._values


@dataclass(frozen=True)
class Started:
    """A server that accepts connections at an address."""

    address: str
    # One line for each upstream; None when the probes take longer.
    probes: tuple[str, ...] | None = None


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
            is_locked = _lock(descriptor, fcntl.LOCK_EX)
            if is_locked and _is_same_file(path, descriptor):
                return cls(path, descriptor)
            pid_text = _read_text(descriptor)
            # Not locked: by a server, or for a moment by somebody who looks. Locked: a server that ended just now has
            # removed what we locked.
            os.close(descriptor)
            tries_left -= 1
            if not tries_left:
                raise DaemonError(
                    f"Daemon is already running (PID: {pid_text}) with PID file {path}"
                )
            time.sleep(0 if is_locked else _POLL_SECONDS)

    def write(self, pid: int) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file and the details beside it, then give up the lock."""
        _details_path(self.path).unlink(missing_ok=True)
        _probes_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def start_daemon(
    serve: Callable[[Reports], None],
    pid_path: Path,
    log_path: Path,
    upstreams: Sequence[str] = (),
    report: Callable[[str], object] = lambda reason: sys.stderr.write(f"✗ {reason}\n"),
) -> Started:
    """Run `serve` in the background; return when it listens and has probed its upstreams, or soon after it listens.

    `serve` reports both through its argument, and runs until the server stops. upstreams: addresses, for `status`.
    report: writes to the log why the server failed. Raises DaemonError with the reason when it ends before it listens.
    """
    log = _open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    pid_file = PidFile.acquire(pid_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        reports = Reports(writer, pid_path, log_path, upstreams)
        _run_detached(serve, pid_file, log, reports, report)
    os.close(writer)
    os.close(log)
    os.close(pid_file.descriptor)
    os.waitpid(child, 0)
    messages = _Messages(reader)
    try:
        outcome = messages.wait_for("listening", "failed")
        if "listening" not in outcome:
            reason = outcome.get("failed")
            raise DaemonError(str(reason or f"the server ended before it listened: see {log_path}"))
        probes = messages.wait_for("probed", "failed", seconds=_PROBE_SECONDS).get("probed")
    finally:
        os.close(reader)
    lines = tuple(map(str, probes)) if isinstance(probes, list) else None
    return Started(str(outcome["listening"]), lines)


def _run_detached(
    serve: Callable[[Reports], None],
    pid_file: PidFile,
    log: int,
    reports: Reports,
    report: Callable[[str], object],
) -> NoReturn:
    """The child's side of `start`; its own parent is gone when python-daemon returns."""
    log_stream = os.fdopen(log, "a", buffering=1, encoding="utf-8")
    context = DaemonContext(
        working_directory=Path.cwd(),
        umask=_UMASK,
        stdout=log_stream,
        stderr=log_stream,
        files_preserve=[pid_file.descriptor, reports.pipe, log_stream],
        detach_process=True,
    )
    code = 0
    try:
        context.open()
        early_signals.detach()
        reports.pid = os.getpid()
        pid_file.write(reports.pid)
        serve(reports)
    except BaseException as error:  # noqa: BLE001 - the parent waits to be told, whatever it was
        code = 1
        report(str(error))
        reports.failed(str(error))
    pid_file.release()
    os._exit(code)


def read_status(pid_path: Path) -> Status:
    """Who holds the PID file, if anybody. Raises DaemonError when it can't be read."""
    try:
        descriptor = _open(pid_path, os.O_RDWR)
    except MissingFileError:
        return Status()
    try:
        # A shared lock: two that look don't hinder each other.
        is_locked = not _lock(descriptor, fcntl.LOCK_SH)
        text = _read_text(descriptor)
    finally:
        os.close(descriptor)
    if not text.isdecimal() or int(text) == 0:
        return Status(invalid=text)
    return Status(running=int(text)) if is_locked else Status(stale=int(text))


def stop_daemon(
    pid_path: Path, pid: int, timeout: float, on_wait: Callable[[], object] = lambda: None
) -> None:
    """Ask the running server to end, and wait until it has, `timeout` seconds at most.

    on_wait: called once when it takes longer than without open requests. Raises DaemonError.
    """
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise DaemonError(f"Failed to stop daemon (PID: {pid}): {error.strerror}") from error
    now = time.monotonic()
    deadline, notice = now + timeout, now + _NOTICE_SECONDS
    while read_status(pid_path).running == pid:
        now = time.monotonic()
        if now > notice:
            on_wait()
            notice = math.inf
        if now > deadline:
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


def _read_text(descriptor: int) -> str:
    return os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()


def _is_same_file(path: Path, descriptor: int) -> bool:
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
