"""Run the server in the background: PID file, log file, start, stop and status (Unix).

The PID file is locked (flock) while the server runs. The lock, not the number in the file, shows
whether the server runs: after a crash, the number may belong to another process, which must not
receive a signal. The lock is taken before python-daemon detaches the process; children inherit it.

The server reports to the command that started it through a pipe: lines of JSON, each an object with
one member. The command does not wait for the end of the pipe, because workers inherit the write end
and keep it open. For `status`, the probe results are also in a file beside the PID file.
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
from typing import Any, NoReturn

from anthropic_proxy.server import early_signals
from anthropic_proxy.wire.json_codec import dumps, loads

if sys.platform != "win32":
    import fcntl

    from daemon import DaemonContext

_NAME = "anthropic-proxy"
# For users without XDG_RUNTIME_DIR or a home. Files are opened without following symbolic links.
_SHARED_DIRECTORY = Path("/tmp")  # noqa: S108 - see above
# PID file of earlier versions, the same for all users.
_OLD_PID_FILE = _SHARED_DIRECTORY / f"{_NAME}.pid"
_MAX_DETAILS_BYTES = 64 * 1024

_UMASK = 0o027
_POLL_SECONDS = 0.05
# Seconds that the start waits for the probes of the upstreams. It also succeeds without them.
_PROBE_SECONDS = 5.0
# Seconds until `stop` reports that it waits. A server without open requests stops sooner.
_NOTICE_SECONDS = 1.0
_LOCK_TRIES = 4


class DaemonError(Exception):
    """The server could not be started or stopped. The text contains the reason."""


class MissingFileError(DaemonError):
    """A file does not exist."""


@dataclass(frozen=True)
class Status:
    """State of a PID file. All fields are None if the file does not exist."""

    # PID of the server that holds the lock.
    running: int | None = None
    # PID of a server that exited without removing the file.
    stale: int | None = None
    # Content of the file if it is not a PID.
    invalid: str | None = None


def default_pid_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the default PID files: the file to write, then other files that are only read."""
    user_file = _SHARED_DIRECTORY / f"{_NAME}-{os.getuid()}.pid"
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir():
        return (runtime / f"{_NAME}.pid", user_file, _OLD_PID_FILE)
    return (user_file, _OLD_PID_FILE)


def choose_log_file(environment: Mapping[str, str]) -> Path:
    """Return the path of the log file, and create its directory.

    It is in XDG_STATE_HOME (default `~/.local/state`), or in /tmp if that is not possible.
    """
    state_home = Path(environment.get("XDG_STATE_HOME", ""))
    try:
        if not state_home.is_absolute():
            state_home = Path.home() / ".local" / "state"
        directory = state_home / _NAME
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory / f"{_NAME}.log"
    except (OSError, RuntimeError):
        pass  # no home directory, as in containers
    return _SHARED_DIRECTORY / f"{_NAME}-{os.getuid()}.log"


def find_pid_file(environment: Mapping[str, str]) -> Path:
    """Return the first default PID file of a running server.

    Without a running server, return the first file that exists, else the file to write.
    """
    existing: list[Path] = []
    for path in default_pid_files(environment):
        try:
            pid_status = read_status(path)
        except DaemonError:  # a file of another user
            continue
        if pid_status.running is not None:
            return path
        if pid_status != Status():
            existing.append(path)
    return [*existing, *default_pid_files(environment)][0]


@dataclass(frozen=True)
class ServerDetails:
    """Details of a running server, for `status`."""

    pid: int
    address: str
    upstreams: tuple[str, ...]
    log: str
    # Seconds since 1970.
    started: float

    def write(self, pid_file: Path) -> None:
        """Write the details beside the PID file, if possible."""
        _write_record(_details_path(pid_file), asdict(self))

    @classmethod
    def read(cls, pid_file: Path, pid: int) -> "ServerDetails | None":
        """Return the details of the server with this PID; None if there are none."""
        record = _read_record(_details_path(pid_file), pid)
        try:
            return cls(**{**record, "upstreams": tuple(map(str, record["upstreams"]))})
        except (TypeError, KeyError):
            return None


@dataclass(frozen=True)
class Probes:
    """Last probe results that a server reported, one line for each upstream."""

    pid: int
    lines: tuple[str, ...]

    def write(self, pid_file: Path) -> None:
        """Write the results beside the PID file, if possible."""
        _write_record(_probes_path(pid_file), asdict(self))

    @classmethod
    def read(cls, pid_file: Path, pid: int) -> "Probes | None":
        """Return the results of the server with this PID; None if there are none."""
        record = _read_record(_probes_path(pid_file), pid)
        try:
            return cls(pid, tuple(map(str, record["lines"])))
        except (TypeError, KeyError):
            return None


def _details_path(pid_file: Path) -> Path:
    return pid_file.with_name(f"{pid_file.name}.json")


def _probes_path(pid_file: Path) -> Path:
    return pid_file.with_name(f"{pid_file.name}.probes.json")


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    # Records are only displayed, so ignore a full disk.
    with contextlib.suppress(OSError, DaemonError):
        descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(dumps(record))


def _read_record(path: Path, pid: int) -> dict[str, Any]:
    """Return the record of the server with this PID; empty if there is none."""
    try:
        with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
            record = loads(file.read(_MAX_DETAILS_BYTES))
    except (DaemonError, OSError, ValueError):
        return {}
    if isinstance(record, dict) and record.get("pid") == pid:
        return record
    return {}


class Reporter:
    """Report from the daemon to the command that started it, and in files for `status`.

    With several workers, each has a copy. The supervisor reports the address, and the first worker
    reports the probes.
    """

    def __init__(self, pipe: int, pid_file: Path, log: Path, upstreams: Sequence[str]) -> None:
        """Create a reporter. pipe: write end. upstreams: base URLs."""
        self.pid = os.getpid()
        self.pipe = pipe
        self._pid_file = pid_file
        self._log = log
        self._upstreams = tuple(upstreams)
        self._has_sent_probes = False

    def report_address(self, address: str) -> None:
        """Report that the server accepts connections at an address (base URL)."""
        details = ServerDetails(self.pid, address, self._upstreams, str(self._log), time.time())
        details.write(self._pid_file)
        self._send("listening", address)

    def report_probes(self, lines: Sequence[str]) -> None:
        """Report the probe results, one line for each upstream."""
        Probes(self.pid, tuple(lines)).write(self._pid_file)
        if not self._has_sent_probes:
            self._has_sent_probes = True
            self._send("probed", lines)

    def report_failure(self, reason: str) -> None:
        """Report the reason for which the server does not run."""
        self._send("failed", reason)

    def _send(self, kind: str, value: object) -> None:
        # The command that started the server may have exited.
        with contextlib.suppress(OSError):
            os.write(self.pipe, dumps({kind: value}) + b"\n")


class _ReportReader:
    """Read the reports of a `Reporter` from the pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._received = b""
        self._reports: dict[str, object] = {}

    def wait_for(self, *kinds: str, seconds: float | None = None) -> Mapping[str, object]:
        """Wait for a report of one of these kinds, and return all reports so far by kind.

        Also return at the end of the pipe, and after `seconds`.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while self._reports.keys().isdisjoint(kinds):
            seconds_left = None
            if deadline < math.inf:
                seconds_left = max(deadline - time.monotonic(), 0)
            if not select.select([self._pipe], [], [], seconds_left)[0]:
                break
            received = os.read(self._pipe, 65536)
            if not received:
                break
            *lines, self._received = (self._received + received).split(b"\n")
            for line in lines:
                self._reports.update(loads(line))
        return self._reports


@dataclass(frozen=True)
class StartedServer:
    """A server that accepts connections."""

    address: str
    # Probe results, one line for each upstream; None if the probes take longer than the start.
    probes: tuple[str, ...] | None = None


class PidFile:
    """A locked PID file. `acquire` creates and locks it; `release` unlocks and removes it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> "PidFile":
        """Lock `path` for this process and its children.

        Raises DaemonError if a running server holds the lock.
        """
        tries_left = _LOCK_TRIES
        while True:
            descriptor = _open(path, os.O_RDWR | os.O_CREAT, 0o644)
            is_locked = _lock(descriptor, fcntl.LOCK_EX)
            if is_locked and _is_same_file(path, descriptor):
                return cls(path, descriptor)
            # Either a server that has just exited removed the locked file, or another process has
            # the lock: a server, or for a moment a command that reads the status.
            pid_text = _read_text(descriptor)
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
        """Remove the file and the records beside it, then unlock it."""
        _details_path(self.path).unlink(missing_ok=True)
        _probes_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def _write_failure(reason: str) -> None:
    sys.stderr.write(f"✗ {reason}\n")


def start_daemon(
    serve: Callable[[Reporter], None],
    pid_path: Path,
    log_path: Path,
    upstreams: Sequence[str] = (),
    log_failure: Callable[[str], object] = _write_failure,
) -> StartedServer:
    """Run `serve` in the background, and return when the server listens.

    Also wait some seconds for the probes of the upstreams.

    serve: runs the server until it stops, and reports address and probes through its argument.
    upstreams: base URLs, for `status`. log_failure: writes the reason for a failure to the log.
    Raises DaemonError if the server exits before it listens.
    """
    log = _open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    pid_file = PidFile.acquire(pid_path)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        reporter = Reporter(write_end, pid_path, log_path, upstreams)
        _run_detached(serve, pid_file, log, reporter, log_failure)
    os.close(write_end)
    os.close(log)
    os.close(pid_file.descriptor)
    os.waitpid(child, 0)
    reader = _ReportReader(read_end)
    try:
        reports = reader.wait_for("listening", "failed")
        if "listening" not in reports:
            reason = reports.get("failed") or f"the server exited during startup: see {log_path}"
            raise DaemonError(str(reason))
        reports = reader.wait_for("probed", "failed", seconds=_PROBE_SECONDS)
    finally:
        os.close(read_end)
    probes = reports.get("probed")
    lines = tuple(map(str, probes)) if isinstance(probes, list) else None
    return StartedServer(str(reports["listening"]), lines)


def _run_detached(
    serve: Callable[[Reporter], None],
    pid_file: PidFile,
    log: int,
    reporter: Reporter,
    log_failure: Callable[[str], object],
) -> NoReturn:
    """Run the server in the child process of `start_daemon`.

    python-daemon forks again and ends the child, so that the server is detached.
    """
    log_stream = os.fdopen(log, "a", buffering=1, encoding="utf-8")
    context = DaemonContext(
        working_directory=Path.cwd(),
        umask=_UMASK,
        stdout=log_stream,
        stderr=log_stream,
        files_preserve=[pid_file.descriptor, reporter.pipe, log_stream],
        detach_process=True,
    )
    code = 0
    try:
        context.open()
        early_signals.detach()
        reporter.pid = os.getpid()
        pid_file.write(reporter.pid)
        serve(reporter)
    except BaseException as error:  # noqa: BLE001 - the parent waits for a report
        code = 1
        log_failure(str(error))
        reporter.report_failure(str(error))
    pid_file.release()
    os._exit(code)


def read_status(pid_path: Path) -> Status:
    """Return the state of a PID file. Raises DaemonError if it can't be read."""
    try:
        descriptor = _open(pid_path, os.O_RDWR)
    except MissingFileError:
        return Status()
    try:
        # A shared lock, so that two commands can read the status at the same time.
        is_running = not _lock(descriptor, fcntl.LOCK_SH)
        text = _read_text(descriptor)
    finally:
        os.close(descriptor)
    if not text.isdecimal() or int(text) == 0:
        return Status(invalid=text)
    return Status(running=int(text)) if is_running else Status(stale=int(text))


def stop_daemon(
    pid_path: Path, pid: int, timeout: float, on_wait: Callable[[], object] = lambda: None
) -> None:
    """Send SIGTERM to the running server, and wait up to `timeout` seconds until it has exited.

    on_wait: called once if the server does not exit at once, probably because of open requests.
    Raises DaemonError.
    """
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise DaemonError(f"Failed to stop daemon (PID: {pid}): {error.strerror}") from error
    started_at = time.monotonic()
    is_waiting = False
    while read_status(pid_path).running == pid:
        waited = time.monotonic() - started_at
        if waited > _NOTICE_SECONDS and not is_waiting:
            is_waiting = True
            on_wait()
        if waited > timeout:
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
    """Take the lock if it is free, and return whether this process has it.

    The lock is released when all copies of the descriptor are closed.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
