"""`anthropic-proxy check` finds what is wrong, and says what to do."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_command import Command
from tests.support.scripted_upstream import (
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

_NAMES = ["context", "completion", "stream", "tool call", "parallel calls", "image"]
_NAMES += ["JSON schema", "reasoning", "verdict"]


def _call(number: int) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    return {"id": f"call_{number}", "type": "function", "function": function}


class _Model(ScriptedUpstream):
    """A model with all features, without the ones in `missing`."""

    def __init__(self, missing: set[str], context: int | None) -> None:
        super().__init__()
        self.missing = missing
        entry: dict[str, Any] = {"id": "qwen3:4b", "object": "model"}
        entry |= {"context_length": context} if context else {}
        self._list = answers({"object": "list", "data": [entry]})
        self.on_probe = self._list

    def script_for(self, received: Received) -> Script:
        if received.path.endswith("/models"):
            return self._list
        body = received.body
        calls = {"tool_calls": [_call(1), _call(2)]}
        first_call = {"choices": [{"delta": {"tool_calls": [{"index": 0, **_call(0)}]}}]}
        scripts = {
            "tool call": streams([first_call, *text_chunks(finish="tool_calls")]),
            "parallel calls": answers(completion(None, message=calls, finish_reason="tool_calls")),
            "image": answers(completion("Red.")),
            "JSON schema": answers(completion('{"name": "Maria", "age": 34}')),
            "reasoning": answers(completion("391", message={"reasoning_content": "17 * 23"})),
            "stream": streams(text_chunks("ready")),
            "completion": answers(completion("ready")),
        }
        feature = _find_feature(body)
        if feature in self.missing:
            return answers({"error": {"message": "out of order"}}, 400)
        return scripts[feature]


def _find_feature(body: dict[str, Any]) -> str:
    text = json.dumps(body["messages"])
    if "tools" in body:
        return "parallel calls" if "Rome" in text else "tool call"
    for name, mark in (("image", "image_url"), ("JSON schema", "Maria"), ("reasoning", "17 * 23")):
        if mark in text:
            return name
    return "stream" if body.get("stream") else "completion"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    program = tmp_path / ".local/bin/claude"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    return Command(tmp_path)


def _run(command: Command, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    hidden = {"PATH": "/usr/bin:/bin", "OLLAMA_HOST": "127.0.0.1:1"}
    return command.run("check", *arguments, **(hidden | variables))


def _states(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return {record["name"]: record["state"] for record in records}


@pytest.mark.parametrize(
    ("missing", "context", "failed", "warnings"),
    [
        (set(), 131072, [], []),
        (set(), None, [], ["context"]),
        (set(), 32768, ["context", "verdict"], []),
        ({"tool call"}, 131072, ["tool call", "verdict"], []),
        ({"stream"}, 131072, ["stream", "verdict"], []),
        (
            {"parallel calls", "image", "JSON schema", "reasoning"},
            131072,
            [],
            ["parallel calls", "image", "JSON schema", "reasoning"],
        ),
    ],
    ids=["all", "unknown-context", "small-context", "no-tools", "no-stream", "no-extras"],
)
def test_each_feature_is_judged(
    command: Command,
    missing: set[str],
    context: int | None,
    failed: list[str],
    warnings: list[str],
) -> None:
    with _Model(missing, context) as upstream:
        result = _run(command, "--json", UPSTREAM_BASE_URL=upstream.url)
    assert result.returncode == (1 if failed else 0), result
    states = _states(result)
    assert [name for name, state in states.items() if state == "failed"] == failed
    assert [name for name, state in states.items() if state == "warning"] == warnings
    assert [name for name in states if name in _NAMES] == _NAMES


def test_a_model_without_completions_ends_the_checks(command: Command) -> None:
    with _Model({"completion"}, 131072) as upstream:
        result = _run(command, "--json", UPSTREAM_BASE_URL=upstream.url)
    states = _states(result)
    assert result.returncode == 1
    assert (states["completion"], states["verdict"], "stream" in states) == (
        "failed",
        "failed",
        False,
    )


def test_the_text_shows_sources_and_consequences(command: Command) -> None:
    (command.home / ".env").write_text("UPSTREAM_API_KEY=sk-in-file\nUPSTREAM_APIKEY=sk-typo\n")
    with _Model({"image"}, 131072) as upstream:
        result = _run(command, UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY="sk-in-environment")
    assert result.returncode == 0, result
    for line in (
        "✓ configuration   UPSTREAM_API_KEY is set in the environment, which overrides .env",
        "✓ configuration   UPSTREAM_BASE_URL is set in the environment",
        "! configuration   .env line 2: UPSTREAM_APIKEY is not known; did you mean",
        f"✓ upstream        {upstream.url}/v1: reachable, key",
        "✓ models          1: qwen3:4b\n",
        "✓ context         131,072 tokens\n",
        "! image           out of order: Claude Code cannot look at screenshots\n",
        "✓ verdict         qwen3:4b can run Claude Code\n",
    ):
        assert line in result.stdout
    assert "sk-" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("variables", "texts"),
    [
        ({}, ["✗ configuration   no upstream found"]),
        (
            {"UPSTREAM_BASE_URL": "http://127.0.0.1:1"},
            ["✗ upstream        http://127.0.0.1:1/v1: refuses connections", "✗ models  "],
        ),
        ({"UPSTREAM_BASE_URL": "ftp://x"}, ["✗ configuration   ", "UPSTREAM_BASE_URL"]),
        ({"CONFIG_FILE": "missing.yaml"}, ["✗ configuration   ", "missing.yaml"]),
    ],
)
def test_failures_are_explained(
    command: Command, variables: dict[str, str], texts: list[str]
) -> None:
    result = _run(command, **variables)
    assert result.returncode == 1
    for text in texts:
        assert text in result.stdout


def test_contradictory_options_are_rejected(command: Command) -> None:
    (command.home / ".env").touch()
    result = _run(command, "--upstream", "http://127.0.0.1:1", "--config", ".env")
    assert (result.returncode, result.stdout) == (2, "")


def test_claude_code_is_checked(tmp_path: Path) -> None:
    with _Model(set(), 131072) as upstream:
        result = _run(Command(tmp_path), UPSTREAM_BASE_URL=upstream.url, PATH=str(tmp_path))
    assert result.returncode == 0, result
    assert "! Claude Code     not installed, or not on the PATH\n" in result.stdout
