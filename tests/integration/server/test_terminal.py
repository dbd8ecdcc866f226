"""A server on a terminal: output, and shutdown when the terminal is closed."""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from anthropic_proxy.server import daemon
from tests.support.running_command import REQUEST, until
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

_MODELS = answers({"object": "list", "data": [{"id": "qwen3:4b", "object": "model"}]})
_USAGE = {
    "prompt_tokens": 9600,
    "completion_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 9500},
}


@dataclass
class Terminal:
    """A server on a separate pseudo-terminal, with its output."""

    process: "subprocess.Popen[bytes]"
    _master: int
    _output: bytes = field(default=b"")

    def read_until(self, pattern: str) -> str:
        """Read until the output matches the pattern, and return the output."""
        while not re.search(pattern, self._output.decode("utf-8", "replace")):
            assert select.select([self._master], [], [], DEADLINE)[0], self._output
            self._output += os.read(self._master, 65536)
        return self._output.decode().replace("\r\n", "\n")

    def close(self) -> None:
        """Close the terminal, as closing a terminal window does."""
        os.close(self._master)
        self._master = -1

    def end(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        if self._master >= 0:
            os.close(self._master)


@contextlib.contextmanager
def _terminal(
    home: Path, *options: str, ignores_hangup: bool = False, **variables: str
) -> Iterator[Terminal]:
    master, slave = os.openpty()

    def prepare() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if ignores_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-m", "anthropic_proxy", "-p", "0", *options],
        cwd=home,
        env={**os.environ, "HOME": str(home), "UPSTREAM_PROVIDER": "generic", **variables},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - it takes no locks
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        terminal.end()


def _address(text: str) -> str:
    match = re.search(r"http://127\.0\.0\.1:\d+(?= \(this machine only\))", text)
    assert match
    return match[0]


def test_the_banner_and_a_line_per_request_are_printed(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.on_probe = _MODELS
    upstream.then(
        answers(completion("Hi") | {"usage": _USAGE}),
        answers({"error": {"message": "out\x1b[2J"}}, 500),
    )
    with _terminal(
        tmp_path, UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY="canary-key"
    ) as terminal:
        output = terminal.read_until(r"upstream probed.*\n")
        address = _address(output)
        for _ in range(2):
            httpx.post(
                f"{address}/v1/messages",
                json=REQUEST | {"model": "qwen3:4b"},
                timeout=DEADLINE,
                trust_env=False,
            )
        output = terminal.read_until(r"api_error.*\n")
    assert (
        f"  Upstream      {upstream.url}/v1 (generic), key set\n  Clients       need no key\n"
        in output
    )
    assert (
        f"  Claude Code   ANTHROPIC_BASE_URL={address} ANTHROPIC_AUTH_TOKEN=any "
        "claude --model MODEL\n" in output
    )
    assert (
        f"[info] upstream probed  {upstream.url}/v1: reachable, key not checked, "
        "1 model (qwen3:4b)\n" in output
    )
    request_line = (
        r"\n\d\d:\d\d:\d\d  qwen3:4b  200  \d+\.\d s  9\.6k in \(9\.5k cached\) 34 out  "
        r"end_turn  req_[0-9a-f]{4}…\n"
    )
    assert re.search(request_line, output)
    # The line is red, without the control characters of the upstream.
    assert re.search(
        r"\x1b\[31m\d\d:\d\d:\d\d  qwen3:4b  500  [^\n]*api_error: [^\n\x1b]*\x1b\[0m\n", output
    )
    assert "\x1b[2J" not in output
    assert "canary" not in output


def test_json_output_contains_only_json(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    (tmp_path / ".env").write_text("UPSTREAM_APIKEY=x\nUPSTREAM_DIALECT=generic\n")
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url, LOG_FORMAT="json") as terminal:
        output = terminal.read_until(r"upstream probed.*\n")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["event"] for line in lines[:4]] == [
        ".env file read",
        "deprecated setting used",
        "setting ignored",
        "server starting",
    ]
    assert (lines[1]["former"], lines[1]["name"]) == ("UPSTREAM_DIALECT", "UPSTREAM_PROVIDER")
    assert lines[2]["reason"] == "UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?"
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_server_ends_with_its_terminal(
    tmp_path: Path, upstream: ScriptedUpstream, workers: str
) -> None:
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as terminal:
        terminal.read_until(r"Claude Code.*\n")
        terminal.close()
        assert terminal.process.wait(DEADLINE) == 0


def test_the_server_does_not_end_with_its_terminal_under_nohup(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with _terminal(tmp_path, ignores_hangup=True, UPSTREAM_BASE_URL=upstream.url) as terminal:
        address = _address(terminal.read_until(r"Claude Code.*\n"))
        terminal.close()
        # The kernel has sent the hangup signal before this one.
        os.kill(terminal.process.pid, signal.SIGHUP)
        assert httpx.get(f"{address}/health", timeout=DEADLINE, trust_env=False).text == "OK"
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_reloads_a_daemon_started_on_a_terminal(
    tmp_path: Path, upstream: ScriptedUpstream, workers: str
) -> None:
    pid_file = tmp_path / "proxy.pid"
    log = tmp_path / ".local/state/anthropic-proxy/anthropic-proxy.log"
    upstream.on_probe = _MODELS
    options = ("--daemon", "--pid-file", str(pid_file))
    variables: dict[str, Any] = {
        "UPSTREAM_BASE_URL": upstream.url,
        "WORKERS": workers,
        "LOG_FORMAT": "console",
        "XDG_STATE_HOME": "",
    }
    with _terminal(tmp_path, *options, **variables) as terminal:
        terminal.read_until(r"Log file: .*\n")
        terminal.close()
        terminal.process.wait(DEADLINE)
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, signal.SIGHUP)
        until(
            lambda: log.read_text().count("config reloaded") == int(workers),
            "the configuration is reloaded",
        )
        assert daemon.read_status(pid_file).running == pid
    finally:
        daemon.stop_daemon(pid_file, pid, DEADLINE)


def test_a_hangup_with_an_open_terminal_reloads_the_configuration(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url) as terminal:
        terminal.read_until(r"Claude Code.*\n")
        os.kill(terminal.process.pid, signal.SIGHUP)
        terminal.read_until("config reloaded")
        assert terminal.process.poll() is None
