"""The real Claude Code CLI, run to its end with its own home directory and an empty environment."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 120  # seconds for one run
BINARY = os.environ.get("CLAUDE_CODE_BINARY", "")

_ENVIRONMENT = {
    "IS_SANDBOX": "1",
    "ANTHROPIC_AUTH_TOKEN": "dummy",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True)
class Outcome:
    """code: the exit code. lines: the JSON lines that it printed. seconds: how long it took."""

    code: int
    lines: list[Any]
    errors: str
    seconds: float

    @property
    def result(self) -> dict[str, Any]:
        """The last of them, which is the result in every output format."""
        result: dict[str, Any] = self.lines[-1]
        return result

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """Content blocks of the assistant's messages (with --output-format stream-json)."""
        return [
            block
            for line in self.lines
            if line["type"] == "assistant"
            for block in line["message"]["content"]
        ]


def run(
    base_url: str, home: Path, workspace: Path, prompt: str, *arguments: str, **variables: str
) -> Outcome:
    """Run `claude -p prompt` in `workspace`."""
    defaults = {"--model": "my-model", "--output-format": "json"}
    added = [word for option in defaults.items() if option[0] not in arguments for word in option]
    command = [BINARY, "-p", prompt, "--dangerously-skip-permissions", *added, *arguments]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "ANTHROPIC_BASE_URL": base_url,
    }
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=workspace,
        env={**environment, **_ENVIRONMENT, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, errors = process.communicate()
        errors = f"not done after {LIMIT} s\n{errors}"
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return Outcome(process.returncode, lines, errors, time.monotonic() - started)
