"""A server on a terminal: its output, and its end when the terminal is closed."""

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
    """A server on a separate pseudo-terminal, and what it has written there."""

    process: "subprocess.Popen[bytes]"
    _master: int
    _shown: bytes = field(default=b"")

    def read_until(self, pattern: str) -> str:
        """Read until the text so far has the pattern; return the text."""
        while not re.search(pattern, self._shown.decode("utf-8", "replace")):
            assert select.select([self._master], [], [], DEADLINE)[0], self._shown
            self._shown += os.read(self._master, 65536)
        return self._shown.decode().replace("\r\n", "\n")

    def close(self) -> None:
        """Close the terminal, as a person closes a window."""
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
    found = re.search(r"http://127\.0\.0\.1:\d+(?= \(this machine only\))", text)
    assert found
    return found[0]


def test_the_banner_and_a_line_for_each_request(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.on_probe = _MODELS
    upstream.then(
        answers(completion("Hi") | {"usage": _USAGE}),
        answers({"error": {"message": "out\x1b[2J"}}, 500),
    )
    with _terminal(
        tmp_path, UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY="canary-key"
    ) as terminal:
        shown = terminal.read_until(r"upstream probed.*\n")
        address = _address(shown)
        for _ in range(2):
            httpx.post(
                f"{address}/v1/messages",
                json=REQUEST | {"model": "qwen3:4b"},
                timeout=DEADLINE,
                trust_env=False,
            )
        shown = terminal.read_until(r"api_error.*\n")
    assert (
        f"  Upstream      {upstream.url}/v1 (generic), key set\n  Clients       need no key\n"
        in shown
    )
    assert (
        f"  Claude Code   ANTHROPIC_BASE_URL={address} ANTHROPIC_AUTH_TOKEN=any "
        "claude --model MODEL\n" in shown
    )
    assert (
        f"[info] upstream probed  {upstream.url}/v1: reachable, key not checked, "
        "1 model (qwen3:4b)\n" in shown
    )
    answered = (
        r"\n\d\d:\d\d:\d\d  qwen3:4b  200  \d+\.\d s  9\.6k in \(9\.5k cached\) 34 out  "
        r"end_turn  req_[0-9a-f]{4}…\n"
    )
    assert re.search(answered, shown)
    # Red, and without the upstream's control characters.
    assert re.search(
        r"\x1b\[31m\d\d:\d\d:\d\d  qwen3:4b  500  [^\n]*api_error: [^\n\x1b]*\x1b\[0m\n", shown
    )
    assert "\x1b[2J" not in shown
    assert "canary" not in shown


def test_json_on_a_terminal_is_nothing_but_json(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    (tmp_path / ".env").write_text("UPSTREAM_APIKEY=x\nUPSTREAM_DIALECT=generic\n")
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url, LOG_FORMAT="json") as terminal:
        shown = terminal.read_until(r"upstream probed.*\n")
    lines = [json.loads(line) for line in shown.splitlines()]
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
def test_it_ends_with_the_terminal(
    tmp_path: Path, upstream: ScriptedUpstream, workers: str
) -> None:
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as terminal:
        terminal.read_until(r"Claude Code.*\n")
        terminal.close()
        assert terminal.process.wait(DEADLINE) == 0


def test_with_nohup_it_does_not(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with _terminal(tmp_path, ignores_hangup=True, UPSTREAM_BASE_URL=upstream.url) as terminal:
        address = _address(terminal.read_until(r"Claude Code.*\n"))
        terminal.close()
        # The signal came before this does.
        os.kill(terminal.process.pid, signal.SIGHUP)
        assert httpx.get(f"{address}/health", timeout=DEADLINE, trust_env=False).text == "OK"
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_reloads_a_background_server_that_was_started_on_a_terminal(
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
            "it is read again",
        )
        assert daemon.read_status(pid_file).running == pid
    finally:
        daemon.stop_daemon(pid_file, pid, DEADLINE)


def test_a_hangup_while_the_terminal_is_there_reloads(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with _terminal(tmp_path, UPSTREAM_BASE_URL=upstream.url) as terminal:
        terminal.read_until(r"Claude Code.*\n")
        os.kill(terminal.process.pid, signal.SIGHUP)
        terminal.read_until("config reloaded")
        assert terminal.process.poll() is None
