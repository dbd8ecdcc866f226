"""`anthropic-proxy claude` runs a program named `claude` with a proxy for it."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.page_upstream import TEXT, PageUpstream
from tests.support.paths import ROOT
from tests.support.running_command import Command, refuses_connections, until
from tests.support.scripted_upstream import DEADLINE

# Writes its arguments and its variables to a file, sends a request, and exits with code 7.
_PROGRAM = """#!{python}
import json, os, pathlib, sys
sys.path.insert(0, {root!r})
pathlib.Path("claude.json").write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
sys.argv[1:] = ["--model", os.environ["ANTHROPIC_MODEL"], "-p", "Hi"]
from tests.support import fake_claude
fake_claude.main()
sys.exit(7)
"""

# Waits until a signal ends it.
_WAITING_PROGRAM = """#!/bin/sh
echo "$ANTHROPIC_BASE_URL" > address.new && mv address.new address
exec sleep 600
"""


@pytest.fixture
def upstream() -> Iterator[PageUpstream]:
    with PageUpstream(is_ollama=False).running() as running:
        yield running


@pytest.fixture
def command(tmp_path: Path) -> Command:
    _install(tmp_path, _PROGRAM.format(python=sys.executable, root=str(ROOT)))
    return Command(tmp_path)


def _install(home: Path, program: str) -> None:
    path = home / ".local/bin/claude"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(program)
    path.chmod(0o755)


def _url(upstream: PageUpstream) -> str:
    return f"http://127.0.0.1:{upstream.port}"


def _read_call(home: Path) -> tuple[list[str], dict[str, str]]:
    arguments, variables = json.loads((home / "claude.json").read_text())
    return arguments, variables


def _hide_machine(home: Path) -> dict[str, str]:
    """Return variables that hide Claude Code and Ollama of the developer's machine."""
    return {"PATH": f"{home}/.local/bin:/usr/bin:/bin", "OLLAMA_HOST": "127.0.0.1:1"}


def _run(command: Command, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return command.run("claude", *arguments, **(_hide_machine(command.home) | variables))


def test_claude_code_gets_a_proxy_that_ends_with_it(
    command: Command, upstream: PageUpstream
) -> None:
    result = _run(
        command,
        *("--upstream", _url(upstream), "--model", "qwen3:4b", "--", "--continue", "a b"),
        UPSTREAM_API_KEY="sk-upstream",
    )
    assert result.returncode == 7, result
    assert result.stdout == f"{TEXT}\n"
    arguments, variables = _read_call(command.home)
    assert arguments == ["--permission-mode", "default", "--continue", "a b"]
    assert variables["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "qwen3:4b"
    assert refuses_connections(variables["ANTHROPIC_BASE_URL"])
    assert [body["model"] for body in upstream.bodies] == ["qwen3:4b"]
    log = next((command.home / ".local/state/anthropic-proxy").glob("claude-*.log"))
    assert str(log) in result.stderr
    assert "server started" in log.read_text()
    assert "sk-upstream" not in log.read_text() + result.stderr


@pytest.mark.parametrize(
    "lines",
    [
        "UPSTREAM_BASE_URL={url}\n",
        "CONFIG_FILE=upstreams.yaml\n",
    ],
)
def test_the_configuration_selects_the_upstream(
    command: Command, upstream: PageUpstream, lines: str
) -> None:
    (command.home / ".env").write_text(lines.format(url=_url(upstream)))
    (command.home / "upstreams.yaml").write_text(
        json.dumps({"upstreams": {"only": {"url": _url(upstream)}}})
    )
    result = _run(command, "--model", "qwen3:4b", OPENAI_API_KEY="sk-not-used")
    assert result.returncode == 7, result
    assert "found" not in result.stderr


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"UPSTREAM_API_KEY": "sk-mine"}, "Bearer sk-mine"),
        # These are keys of other upstreams, and must not be sent to this one.
        ({"UPSTREAM_BASE_URL": "http://127.0.0.1:1", "UPSTREAM_API_KEY": "sk-other"}, None),
        ({"ANTHROPIC_PROXY_BASE_URL": "http://127.0.0.1:1", "UPSTREAM_API_KEY": "sk"}, None),
        ({"OPENROUTER_API_KEY": "sk-or"}, None),
        # Settings that are for the models of other upstreams, or for a server for others.
        ({"COMPLETION_MODEL": "other", "model_map": "qwen3:4b=other", "METRICS_PORT": "1"}, None),
        ({"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}, None),
    ],
)
@pytest.mark.parametrize("lines", ["CONFIG_FILE=missing.yaml\n", "UPSTREAM_API_KEY=sk-file\n"])
def test_the_option_has_priority_over_the_configuration(
    command: Command,
    upstream: PageUpstream,
    variables: dict[str, str],
    key: str | None,
    lines: str,
) -> None:
    (command.home / ".env").write_text(lines)
    address = f"127.0.0.1:{upstream.port}"
    result = _run(command, "--upstream", address, "--model", "qwen3:4b", **variables)
    assert result.returncode == 7, result
    assert upstream.authorizations == [key]
    assert [body["model"] for body in upstream.bodies] == ["qwen3:4b"]


def test_settings_of_a_server_for_others_do_not_apply(
    command: Command, upstream: PageUpstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        lines = {
            "UPSTREAM_BASE_URL": _url(upstream),
            "METRICS_PORT": used.getsockname()[1],
            "TLS_CERT_FILE": "missing.pem",
            "TLS_KEY_FILE": "missing.pem",
            "UNIX_SOCKET": "proxy.sock",
            "COMPLETION_MODEL": "configured",
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (command.home / ".env").write_text(text)
        result = _run(command, "--model", "qwen3:4b")
    assert result.returncode == 7, result
    assert [body["model"] for body in upstream.bodies] == ["configured"]


def test_several_upstreams_are_found(command: Command, upstream: PageUpstream) -> None:
    result = _run(
        command,
        *("--model", "openai/qwen3:4b"),
        OPENAI_API_KEY="sk-openai",
        OPENAI_BASE_URL=_url(upstream),
        OLLAMA_HOST=f"127.0.0.1:{upstream.port}",
    )
    assert result.returncode == 7, result
    assert "✓ found openai (OPENAI_API_KEY)\n" in result.stderr
    assert f"✓ found ollama (127.0.0.1:{upstream.port})\n" in result.stderr
    assert [body["model"] for body in upstream.bodies] == ["qwen3:4b"]


def test_forwarded_keys_reach_the_upstream(command: Command, upstream: PageUpstream) -> None:
    variables = {
        "UPSTREAM_BASE_URL": _url(upstream),
        "UPSTREAM_API_KEY_PASSTHROUGH": "true",
    }
    result = _run(command, "--model", "qwen3:4b", **variables)
    assert result.returncode == 1
    assert "set ANTHROPIC_AUTH_TOKEN to it" in result.stderr
    result = _run(command, "--model", "qwen3:4b", ANTHROPIC_AUTH_TOKEN="sk-mine", **variables)
    assert result.returncode == 7, result
    assert _read_call(command.home)[1]["ANTHROPIC_AUTH_TOKEN"] == "sk-mine"


def test_the_running_daemon_is_used(command: Command, upstream: PageUpstream) -> None:
    runtime = command.home / "run"
    runtime.mkdir()
    variables = {"XDG_RUNTIME_DIR": str(runtime), "UPSTREAM_BASE_URL": _url(upstream)}
    started = command.run("-p", "0", "--daemon", **variables)
    assert started.returncode == 0, started
    try:
        result = _run(command, "--model", "qwen3:4b", XDG_RUNTIME_DIR=str(runtime))
        printed = command.run("env", "--model", "qwen3:4b", XDG_RUNTIME_DIR=str(runtime))
    finally:
        stopped = command.run("stop", **variables)
    assert (result.returncode, stopped.returncode) == (7, 0), result
    address = _read_call(command.home)[1]["ANTHROPIC_BASE_URL"]
    assert f"through the daemon at {address} (PID " in result.stderr
    assert address in started.stdout
    assert f"export ANTHROPIC_BASE_URL='{address}'\n" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "texts"),
    [
        ((), {}, ["✗ no upstream found", "anthropic-proxy claude --upstream", "ollama 11434"]),
        (
            ("--upstream", "http://127.0.0.1:1"),
            {},
            ["refuses connections", "http://127.0.0.1:1/v1", "name one with --model"],
        ),
        ((), {"UPSTREAM_BASE_URL": "ftp://x"}, ["UPSTREAM_BASE_URL", "ftp"]),
        ((), {"CONFIG_FILE": "missing.yaml"}, ["missing.yaml"]),
        (("--upstream", "ftp://x"), {}, ["✗ invalid --upstream", "ftp://x", "expected"]),
        (("--upstream", "{url}"), {}, ["choose a model with --model: gpt-6.1-terra, qwen/qwen3-"]),
    ],
)
def test_failures_are_explained(
    command: Command,
    upstream: PageUpstream,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    texts: list[str],
) -> None:
    words = [argument.format(url=_url(upstream)) for argument in arguments]
    result = _run(command, *words, **variables)
    assert result.returncode == 1
    assert not (command.home / "claude.json").exists()
    for text in texts:
        assert text in result.stderr


def test_an_upstream_and_a_configuration_exclude_each_other(command: Command) -> None:
    (command.home / "proxy.env").touch()
    result = _run(command, "--upstream", "http://127.0.0.1:1", "--config", "proxy.env")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Error: use either --upstream or --config" in result.stderr


def test_the_installation_of_claude_code_is_explained(tmp_path: Path) -> None:
    result = _run(Command(tmp_path), "--upstream", "http://127.0.0.1:1", PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("✗ Claude Code is not installed")
    assert "npm install -g @anthropic-ai/claude-code" in result.stderr


def test_a_program_that_does_not_start_is_reported(tmp_path: Path, upstream: PageUpstream) -> None:
    _install(tmp_path, "#!/missing/interpreter\n")
    result = _run(Command(tmp_path), "--upstream", _url(upstream), "--model", "m")
    assert result.returncode == 1
    assert "/claude does not start: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_claude_code_and_the_proxy(
    tmp_path: Path, upstream: PageUpstream, number: signal.Signals
) -> None:
    _install(tmp_path, _WAITING_PROGRAM)
    process = Command(tmp_path).popen(
        *("claude", "--upstream", _url(upstream), "--model", "m"), **_hide_machine(tmp_path)
    )
    address = tmp_path / "address"
    try:
        until(address.exists, "Claude Code starts")
        process.send_signal(number)
        code = process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert code == (-number if number is signal.SIGKILL else 128 + number)
    until(lambda: refuses_connections(address.read_text().strip()), "the proxy ends")


def test_the_user_chooses_a_model_in_a_terminal(command: Command, upstream: PageUpstream) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "anthropic_proxy", "claude", "--upstream", _url(upstream)],
        cwd=command.home,
        env=command.environment(_hide_machine(command.home)),
        stdin=follower,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""

    def is_asked() -> bool:
        nonlocal shown
        shown += os.read(leader, 65536)
        return b"part of its name): " in shown

    until(is_asked, "the question")
    os.write(leader, b"coder\n")
    assert process.wait(DEADLINE) == 7
    os.close(leader)
    assert _read_call(command.home)[1]["ANTHROPIC_MODEL"] == "qwen/qwen3-coder"
    assert b"   2  qwen/qwen3-coder" in shown


def test_old_logs_are_deleted(command: Command, upstream: PageUpstream) -> None:
    logs = command.home / ".local/state/anthropic-proxy"
    logs.mkdir(parents=True)
    for number in range(12):
        path = logs / f"claude-{number}.log"
        path.touch()
        os.utime(path, (number, number))
    (logs / "anthropic-proxy.log").touch()
    _run(command, "--upstream", _url(upstream), "--model", "qwen3:4b")
    names = {path.name for path in logs.iterdir()}
    assert len(names) == 11
    assert {"anthropic-proxy.log", *(f"claude-{number}.log" for number in range(3, 12))} < names
