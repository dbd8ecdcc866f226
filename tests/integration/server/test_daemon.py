"""The background server: `--daemon`, `status` and `stop`, with real processes and signals."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from anthropic_proxy.cli.main import cli
from anthropic_proxy.server import daemon
from anthropic_proxy.server.daemon import DaemonError, PidFile, Status
from tests.support.running_command import REQUEST, Command, refuses_connections, until
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Yield the command, and kill its background server afterwards."""
    command = Command(tmp_path)
    yield command
    running = daemon.read_status(command.pid_file).running
    if running is not None:
        os.kill(running, signal.SIGKILL)
        until(lambda: daemon.read_status(command.pid_file).running is None, "the server has ended")


@contextlib.contextmanager
def _waiting_process() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that runs until a line is written to its input."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def foreign() -> Iterator[int]:
    """Yield the PID of an unrelated running process, which must not be killed."""
    with _waiting_process() as process:
        yield process.pid
        process.communicate(b"\n", DEADLINE)
        assert process.returncode == 0, "the process was killed"


def _start(command: Command, upstream: ScriptedUpstream, **variables: str) -> str:
    """Start a server and return its address."""
    result = _daemon(command, upstream.url, 0, **variables)
    assert result.returncode == 0, result.stderr
    output = re.fullmatch(
        r"✓ Daemon started, listening on (\S+)\n  PID file: (.+)\n  Log file: (.+)\n"
        r"  Upstream: http\S+: reachable, .+\n",
        result.stdout,
    )
    assert output is not None
    address, pid_file, log_file = output.groups()
    assert (pid_file, log_file) == (str(command.pid_file), str(_log_path(command)))
    return address


def _daemon(
    command: Command, upstream: str, port: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    options = ("--host", "127.0.0.1", "-p", str(port), "--pid-file", str(command.pid_file))
    return command.run("--daemon", *options, UPSTREAM_BASE_URL=upstream, **variables)


def _run(command: Command, subcommand: str) -> tuple[int, str, str]:
    result = command.run(subcommand, "--pid-file", str(command.pid_file))
    return result.returncode, result.stdout, result.stderr


def _log_path(command: Command) -> Path:
    """Return the default path of the log for a user with this home."""
    return command.home / ".local" / "state" / "anthropic-proxy" / "anthropic-proxy.log"


def _pid(command: Command) -> int:
    return int(command.pid_file.read_text())


def test_a_daemon_is_started_reported_and_stopped(
    command: Command, upstream: ScriptedUpstream
) -> None:
    address = _start(command, upstream)
    upstream.then(answers(completion("Hello there")))
    response = httpx.post(f"{address}/v1/messages", json=REQUEST, timeout=DEADLINE, trust_env=False)
    assert response.json()["content"] == [{"type": "text", "text": "Hello there"}]
    pid = _pid(command)
    assert os.getsid(pid) not in (pid, os.getsid(0)), "the server is not detached"
    code, output, _ = _run(command, "status")
    assert (code, re.sub(r"for: \S+ s\n", "for: 1 s\n", output).splitlines()) == (
        0,
        [
            f"✓ Daemon is running (PID: {pid})",
            f"  PID file: {command.pid_file}",
            f"  Listening on: {address}",
            f"  Upstream: {upstream.url}/v1: reachable, key not checked, no list of models",
            "  Running for: 1 s",
            f"  Log file: {_log_path(command)}",
        ],
    )
    assert _run(command, "stop") == (0, f"✓ Daemon stopped (PID: {pid})\n", "")
    assert not command.pid_file.exists()
    assert refuses_connections(address)
    assert _run(command, "status") == (
        1,
        "",
        f"✗ Daemon is not running\n  PID file not found: {command.pid_file}\n",
    )


def test_a_daemon_with_workers_is_started(command: Command, upstream: ScriptedUpstream) -> None:
    """The start command ends even though the workers inherit the report pipe of the server."""
    address = _start(command, upstream, WORKERS="2")
    pid = _pid(command)
    assert httpx.get(f"{address}/health", timeout=DEADLINE, trust_env=False).text == "OK"
    assert _run(command, "stop") == (0, f"✓ Daemon stopped (PID: {pid})\n", "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_unreachable_upstream_is_printed_at_startup(command: Command, workers: str) -> None:
    with ScriptedUpstream() as stopped:
        url = stopped.url
    result = _daemon(command, url, WORKERS=workers)
    line = f"  Upstream: {url}/v1: refuses connections or can't be reached; "
    line += "check that it is running; check UPSTREAM_BASE_URL; the proxy probes it every 10 s"
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith(line)
    assert line in _run(command, "status")[1]
    _run(command, "stop")
    assert not list(command.home.glob("proxy.pid*"))


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        (b'{"listening":"a"}\n', "listening", {"listening": "a"}),
        (b'{"probed":[]}\n{"listening":"a"}\n', "listening", {"probed": [], "listening": "a"}),
        (b'{"listening":"a"}\n', "probed", {"listening": "a"}),
        (b'{"listening":"a"}\n{"prob', "probed", {"listening": "a"}),
        (b"", "listening", {}),
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_reports_of_the_server_are_read(
    written: bytes, kind: str, expected: dict[str, object], *, is_open: bool
) -> None:
    """The wait for a writer that does not close the pipe, such as a worker, has a limit."""
    reader, writer = os.pipe()
    os.write(writer, written)
    if not is_open:
        os.close(writer)
    assert (
        daemon._ReportReader(reader).wait_for(kind, seconds=0.01 if is_open else None) == expected
    )
    os.close(reader)
    if is_open:
        os.close(writer)


def test_a_worker_failure_at_startup_is_reported(
    command: Command, upstream: ScriptedUpstream
) -> None:
    result = _daemon(
        command, upstream.url, WORKERS="2", RATE_LIMIT_STORAGE_URL="sqlite:////no/dir/x"
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "a worker exited during startup" in result.stderr
    assert not command.pid_file.exists()


def test_a_second_start_is_rejected(command: Command, upstream: ScriptedUpstream) -> None:
    address = _start(command, upstream)
    pid = _pid(command)
    second = _daemon(command, upstream.url)
    assert (second.returncode, second.stdout) == (1, "")
    assert (
        second.stderr.splitlines()[-1]
        == f"✗ Daemon is already running (PID: {pid}) with PID file {command.pid_file}"
    )
    assert _pid(command) == pid
    assert httpx.get(f"{address}/health", timeout=DEADLINE, trust_env=False).text == "OK"


def test_a_restart_appends_to_the_log(command: Command, upstream: ScriptedUpstream) -> None:
    addresses = []
    for _ in range(2):
        addresses.append(_start(command, upstream))
        pid = _pid(command)
        assert _run(command, "stop") == (0, f"✓ Daemon stopped (PID: {pid})\n", "")
    log = _log_path(command).read_text(errors="replace")
    first, second = (log.rindex(f"address={address} ") for address in addresses)
    assert first < log.index(" stopping", first) < second < log.index(" stopping", second)


def test_an_address_in_use_is_reported(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = _daemon(command, "http://localhost:1", port)
    reason = f"✗ can't listen on 127.0.0.1:{port}: Address already in use"
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith(reason)
    assert not command.pid_file.exists()
    assert reason in _log_path(command).read_text(errors="replace")


def test_stop_waits_for_open_streams(command: Command, upstream: ScriptedUpstream) -> None:
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    address = _start(command, upstream)
    with (
        httpx.stream(
            "POST", f"{address}/v1/messages", json=REQUEST | {"stream": True}, trust_env=False
        ) as response,
        command.popen("stop", "--pid-file", str(command.pid_file), stderr=subprocess.PIPE) as stop,
    ):
        lines = response.iter_lines()
        before = next(line for line in lines if "text_delta" in line)
        until(lambda: refuses_connections(address), "the server handles the signal")
        assert stop.poll() is None
        assert command.pid_file.exists()
        assert stop.stderr is not None
        assert b"Waiting for open requests to finish" in stop.stderr.readline()
        pause.go.set()
        after = list(lines)
        assert stop.wait(DEADLINE) == 0
    assert '"text":"Hel"' in before
    assert any('"text":"lo"' in line for line in after)
    assert [line for line in after if line.startswith("event: ")][-1] == "event: message_stop"
    assert not command.pid_file.exists()


def test_a_start_after_a_crash_replaces_the_pid_file(
    command: Command, upstream: ScriptedUpstream
) -> None:
    _start(command, upstream)
    crashed = _pid(command)
    os.kill(crashed, signal.SIGKILL)
    until(lambda: daemon.read_status(command.pid_file).stale == crashed, "the lock is released")
    address = _start(command, upstream)
    assert _pid(command) != crashed
    assert httpx.get(f"{address}/health", timeout=DEADLINE, trust_env=False).text == "OK"


@pytest.mark.parametrize("subcommand", ["status", "stop"])
def test_the_pid_of_another_process_is_stale(
    command: Command, foreign: int, subcommand: str
) -> None:
    command.pid_file.write_text(f"{foreign}\n")
    message = (
        f"✗ Daemon is not running\n  Stale PID file found: {command.pid_file} (PID: {foreign})\n"
    )
    assert _run(command, subcommand) == (1, "", message)


def test_a_start_replaces_the_pid_of_another_process(
    command: Command, upstream: ScriptedUpstream, foreign: int
) -> None:
    command.pid_file.write_text(f"{foreign}\n# and more than a PID takes\n")
    _start(command, upstream)
    pid = _pid(command)
    assert pid != foreign
    assert _run(command, "stop")[:2] == (0, f"✓ Daemon stopped (PID: {pid})\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, Status(), id="missing"),
        pytest.param(b"123456\n", Status(stale=123456), id="stale"),
        pytest.param(b"  7", Status(stale=7), id="stale-among-spaces"),
        pytest.param(b"1" * 100, Status(stale=int("1" * 64)), id="stale-and-too-large"),
        pytest.param(b"", Status(invalid=""), id="empty"),
        pytest.param(b"abc\n", Status(invalid="abc"), id="text"),
        pytest.param(b"0\n", Status(invalid="0"), id="zero"),
        pytest.param(b"-1\n", Status(invalid="-1"), id="negative"),
        pytest.param(b"12 34\n", Status(invalid="12 34"), id="two-numbers"),
        pytest.param(b"\xff\n", Status(invalid="\ufffd"), id="no-text"),
    ],
)
def test_the_pid_file_is_parsed(tmp_path: Path, content: bytes | None, expected: Status) -> None:
    path = tmp_path / "proxy.pid"
    if content is not None:
        path.write_bytes(content)
    assert daemon.read_status(path) == expected


@pytest.mark.parametrize("subcommand", ["status", "stop"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "✗ Daemon is not running\n  PID file not found: {path}\n", id="missing"),
        pytest.param(
            "99999999",
            "✗ Daemon is not running\n  Stale PID file found: {path} (PID: 99999999)\n",
            id="stale",
        ),
        pytest.param(
            "abc\n",
            "✗ Daemon is not running\n  Invalid PID in file: {path} ('abc')\n",
            id="invalid",
        ),
        pytest.param("link", "✗ can't open {path}: Too many levels of symbolic links\n", id="link"),
    ],
)
def test_stale_and_invalid_files_are_reported(
    tmp_path: Path, content: str | None, message: str, subcommand: str
) -> None:
    path = tmp_path / "proxy.pid"
    if content == "link":
        path.symlink_to(tmp_path / "target")
        path.write_text("123456")  # through the link
    elif content is not None:
        path.write_text(content)
    result = CliRunner().invoke(cli, [subcommand, "--pid-file", str(path)])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", message.format(path=path))
    if content == "abc\n":
        assert path.read_text() == content


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "proxy.pid"
    target.write_text("7")
    link.symlink_to(target)
    for function in (daemon.read_status, PidFile.acquire):
        with pytest.raises(DaemonError, match="can't open"):
            function(link)
    assert target.read_text() == "7"


def test_the_pid_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "proxy.pid"
    path.write_text("123456789")
    pid_file = PidFile.acquire(path)
    pid_file.write(42)
    assert path.read_text() == "42\n"
    assert daemon.read_status(path) == Status(running=42)
    with pytest.raises(
        DaemonError,
        match=rf"^Daemon is already running \(PID: 42\) with PID file {re.escape(str(path))}$",
    ):
        PidFile.acquire(path)
    pid_file.release()
    assert daemon.read_status(path) == Status()
    PidFile.acquire(path).release()


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends between the opening and the locking of its file removes the file."""
    path = tmp_path / "proxy.pid"
    lock = daemon._lock

    def lock_of_a_removed_file(descriptor: int, kind: int) -> bool:
        path.unlink()
        monkeypatch.setattr(daemon, "_lock", lock)
        return lock(descriptor, kind)

    monkeypatch.setattr(daemon, "_lock", lock_of_a_removed_file)
    pid_file = PidFile.acquire(path)
    pid_file.write(42)
    assert daemon.read_status(path) == Status(running=42)
    pid_file.release()


def test_a_status_check_does_not_prevent_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status check holds the lock for a moment, and the start retries."""
    path = tmp_path / "proxy.pid"
    lock, attempts = daemon._lock, iter([False, False])
    monkeypatch.setattr(
        daemon, "_lock", lambda descriptor, kind: next(attempts, True) and lock(descriptor, kind)
    )
    PidFile.acquire(path).release()


def test_a_file_that_disappears_during_a_status_check_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert daemon.read_status(tmp_path / "gone.pid") == Status()


def test_an_unusable_log_leaves_no_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "proxy.pid"
    with pytest.raises(DaemonError, match="can't open"):
        daemon.start_daemon(lambda _: None, path, tmp_path / "no" / "such.log")
    assert not path.exists()


def test_the_pid_file_option_may_precede_the_subcommand(
    command: Command, upstream: ScriptedUpstream
) -> None:
    _start(command, upstream)
    result = command.run("--pid-file", str(command.home / "proxy.pid"), "status")
    assert result.returncode == 0
    assert f"(PID: {_pid(command)})" in result.stdout


def test_stop_reports_a_server_that_does_not_end(tmp_path: Path) -> None:
    pid_file = PidFile.acquire(tmp_path / "proxy.pid")
    with _waiting_process() as process:
        pid_file.write(process.pid)
        with pytest.raises(
            DaemonError,
            match=rf"^Daemon \(PID: {process.pid}\) is still finishing open requests after 0 s$",
        ):
            daemon.stop_daemon(pid_file.path, process.pid, 0)
        assert process.wait(DEADLINE) == -signal.SIGTERM
    with pytest.raises(
        DaemonError, match=rf"^Failed to stop daemon \(PID: {process.pid}\): No such process$"
    ):
        daemon.stop_daemon(pid_file.path, process.pid, 0)
    pid_file.release()
