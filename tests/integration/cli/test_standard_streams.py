"""The command with closed or full standard streams, and with a low limit of open files."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from anthropic_proxy.server import daemon
from tests.support.running_command import Command, until
from tests.support.scripted_upstream import DEADLINE

_COMMAND = f"{shlex.quote(sys.executable)} -m anthropic_proxy"
_URL = {"UPSTREAM_BASE_URL": "http://127.0.0.1:9", "UPSTREAM_PROVIDER": "generic"}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def _shell(command: Command, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", line],
        cwd=command.home,
        env=command.environment(_URL | variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_daemon_starts_without_streams(command: Command, closed: str) -> None:
    options = f"--pid-file {command.pid_file}"
    result = _shell(command, f"{_COMMAND} -p 0 --daemon {options} {closed}")
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)
    running = daemon.read_status(command.pid_file).running
    assert running is not None
    details = daemon.ServerDetails.read(command.pid_file, running)
    assert details is not None
    try:
        assert httpx.get(f"{details.address}/health", trust_env=False).text == "OK"
        standard = [Path(f"/proc/{running}/fd/{number}").readlink() for number in range(3)]
        assert not [path for path in standard if "socket" in str(path)]
    finally:
        assert command.run("stop", "--pid-file", str(command.pid_file)).returncode == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_foreground_server_starts_without_streams(command: Command, closed: str) -> None:
    socket = command.home / "proxy.sock"
    process = subprocess.Popen(
        ["/bin/bash", "-c", f"exec {_COMMAND} {closed}"],
        cwd=command.home,
        env=command.environment(_URL | {"UNIX_SOCKET": str(socket)}),
    )
    try:
        until(lambda: process.poll() is not None or socket.exists(), "the server listens")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
            assert client.get("http://proxy/health").text == "OK"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_failed_start_without_streams_returns_1(command: Command, closed: str) -> None:
    assert _shell(command, f"{_COMMAND} {closed}", UPSTREAM_BASE_URL="x").returncode == 1


@pytest.mark.parametrize("arguments", ["--help", "--version", "stop --help", "keys list"])
def test_a_full_disk_is_reported(command: Command, arguments: str) -> None:
    keys = command.home / "keys.json"
    keys.write_text('{"keys": []}')
    line = f"{_COMMAND} {arguments} > /dev/full"
    result = _shell(command, line, PROXY_API_KEYS_FILE=str(keys))
    assert result.returncode == 1
    assert result.stderr == "✗ can't write the output: No space left on device\n"


@pytest.mark.parametrize("mode", ["", "--daemon --pid-file proxy.pid"])
@pytest.mark.parametrize(
    ("limit", "workers", "needed"), [(8, "1", 65), (16, "1", 65), (64, "1", 65), (70, "9", 73)]
)
def test_a_low_limit_of_open_files_is_reported(
    command: Command, mode: str, limit: int, workers: str, needed: int
) -> None:
    result = _shell(command, f"ulimit -n {limit}; {_COMMAND} -p 0 {mode}", WORKERS=workers)
    assert result.returncode == 1
    message = f"the limit of open files and sockets is {limit}, but at least {needed} are needed"
    assert f"✗ {message}" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupt_during_the_start_ends_the_server(command: Command) -> None:
    log = command.home / "stderr.txt"
    with log.open("wb") as stderr:
        process = command.popen("-p", "0", stderr=stderr, **_URL)
    until(lambda: "Starting" in log.read_text() or "env file" in log.read_text(), "it starts")
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    assert "Aborted" not in log.read_text()
    assert "Traceback" not in log.read_text()
