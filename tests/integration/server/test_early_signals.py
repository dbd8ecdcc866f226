"""Signals during startup.

The configuration file is a pipe without a writer, which delays the startup.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

from anthropic_proxy.server import early_signals
from anthropic_proxy.server.early_signals import EarlyHangup
from tests.support.running_command import Command, until
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream


@dataclass(frozen=True)
class _StartingServer:
    """A server that waits for its configuration; `resume` writes it."""

    process: "Popen[bytes]"
    log: Path
    _pipe: int
    _path: Path
    _text: str

    def close(self) -> None:
        """Write an empty configuration."""
        os.close(self._pipe)

    def resume(self) -> None:
        # The server reads the file again later, so it becomes a regular file.
        regular = self._path.with_suffix(".new")
        regular.write_text(self._text)
        regular.rename(self._path)
        os.write(self._pipe, self._text.encode())
        os.close(self._pipe)


@contextmanager
def _start_server(command: Command, text: str, **variables: str) -> Iterator[_StartingServer]:
    path, log = command.home / "upstreams.yaml", command.home / "stderr.txt"
    os.mkfifo(path)
    with log.open("wb") as stderr:
        process = command.popen(
            "-p", "0", "--host", "127.0.0.1", stderr=stderr, CONFIG_FILE=str(path), **variables
        )
    try:
        # `open` returns when the server has opened the pipe for reading.
        yield _StartingServer(process, log, os.open(path, os.O_WRONLY), path, text)
    finally:
        process.kill()
        process.wait(DEADLINE)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def config(upstream: ScriptedUpstream) -> str:
    return f"upstreams: {{a: {{url: '{upstream.url}', key: k, provider: generic}}}}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_is_delayed_until_the_server_runs(
    command: Command, config: str, workers: str
) -> None:
    with _start_server(command, config, WORKERS=workers, RELOAD_INTERVAL="0") as server:
        server.process.send_signal(signal.SIGHUP)
        server.resume()
        until(
            lambda: server.log.read_text().count("config reloaded") == int(workers),
            "the configuration is reloaded",
        )
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0


def test_without_a_signal_the_configuration_is_not_reloaded(command: Command, config: str) -> None:
    with _start_server(command, config, RELOAD_INTERVAL="0") as server:
        server.resume()
        until(lambda: "server started" in server.log.read_text(), "the server listens")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        assert "config reloaded" not in server.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_during_startup_ends_the_server(
    command: Command, config: str, workers: str, number: signal.Signals
) -> None:
    with _start_server(command, config, WORKERS=workers) as server:
        server.process.send_signal(number)
        # A signal just before the pipe is read is handled when the read returns.
        server.close()
        assert server.process.wait(DEADLINE) == 0
        assert "Traceback" not in server.log.read_text()
        assert "Aborted" not in server.log.read_text()


def test_workers_reload_on_a_hangup_of_the_terminal(
    command: Command, upstream: ScriptedUpstream
) -> None:
    """A terminal sends the signal to all processes."""
    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2", HOST="127.0.0.1") as server:
        children = (
            Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
            .read_text()
            .split()
        )
        assert len(children) == 2
        for child in children:
            os.kill(int(child), signal.SIGHUP)
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: server.log.read_text().count("config reloaded") == 2, "both have reloaded")
        assert httpx.get(f"{server.address}/health", trust_env=False).text == "OK"
        assert "worker exited" not in server.end()[1]


def test_commands_under_nohup_ignore_hangups() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        early_signals.install_handlers()
        early_signals.restore_handlers()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_early_signals_are_handled() -> None:
    before = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)
    try:
        early_signals.install_handlers()
        hangup = EarlyHangup()
        assert not hangup.was_received
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(SystemExit) as error:
            os.kill(os.getpid(), signal.SIGTERM)
        early_signals.restore_handlers()
        assert (hangup.was_received, error.value.code) == (True, 0)
        assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)] == [
            signal.SIG_DFL
        ] * 2
        early_signals.restore_handlers()
        assert not EarlyHangup().was_received
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
