"""The environment of Claude Code, and where the program is found."""

import json
from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.cli.launch import claude_code

_URL, _TOKEN = "http://127.0.0.1:1", "token"


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ({"id": "m"}, {}),
        ({"id": "m", "max_input_tokens": None, "max_tokens": 0}, {}),
        ({"id": "m", "max_input_tokens": 131072}, {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": "131072"}),
        (
            {"id": "m", "max_input_tokens": 8192, "max_tokens": 4096},
            {
                "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "8192",
                "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4096",
            },
        ),
    ],
)
def test_all_slots_get_the_model_and_its_sizes(
    model: dict[str, Any], sizes: dict[str, str]
) -> None:
    assert (
        claude_code.claude_variables(_URL, _TOKEN, model)
        == {
            "ANTHROPIC_BASE_URL": _URL,
            "ANTHROPIC_AUTH_TOKEN": _TOKEN,
            "ANTHROPIC_MODEL": "m",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "m",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "m",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "m",
            "ANTHROPIC_DEFAULT_FABLE_MODEL": "m",
        }
        | sizes
    )


def test_other_servers_and_keys_of_the_user_are_replaced() -> None:
    variables = claude_code.claude_variables(_URL, _TOKEN, {"id": "m", "max_tokens": 9})
    user = {
        "ANTHROPIC_BASE_URL": "https://other.invalid",
        "ANTHROPIC_AUTH_TOKEN": "old",
        "ANTHROPIC_API_KEY": "sk-ant",
        "CLAUDE_CODE_OAUTH_TOKEN": "login",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_USE_VERTEX": "1",
        "CLAUDE_CODE_USE_MANTLE": "1",
        "CLAUDE_CODE_USE_ANTHROPIC_AWS": "1",
        "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": "1",
        "ANTHROPIC_UNIX_SOCKET": "/run/other.sock",
        "ANTHROPIC_MODEL": "claude-opus-5",
        # sizes and models for parts of the work are the user's choice
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "7",
        "TERM": "xterm",
    }
    environment = claude_code.claude_environment(variables, user)
    assert environment == variables | {
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "7",
        "TERM": "xterm",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("user", "exempt"),
    [
        ({}, "127.0.0.1"),
        ({"HTTPS_PROXY": "http://proxy.invalid"}, "127.0.0.1"),
        ({"NO_PROXY": "a.invalid, b.invalid"}, "a.invalid,b.invalid,127.0.0.1"),
        ({"no_proxy": "a.invalid"}, "a.invalid,127.0.0.1"),
        ({"no_proxy": "127.0.0.1"}, "127.0.0.1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_an_http_proxy_gets_no_requests_for_this_machine(user: dict[str, str], exempt: str) -> None:
    variables = claude_code.claude_variables(_URL, _TOKEN, {"id": "m"})
    environment = claude_code.claude_environment(variables, user)
    assert {environment["NO_PROXY"], environment["no_proxy"]} == {exempt}


@pytest.mark.parametrize(
    ("arguments", "has_mode"),
    [
        ([], True),
        (["-p", "hi"], True),
        (["fix the tests"], True),
        (["--continue"], True),
        (["--permission-mode", "plan"], False),
        (["-p", "hi", "--permission-mode=auto"], False),
        (["--dangerously-skip-permissions"], False),
        (["mcp", "list"], False),
        (["setup-token"], False),
    ],
)
def test_the_user_decides_about_commands(arguments: list[str], *, has_mode: bool) -> None:
    mode = ["--permission-mode", "default"] if has_mode else []
    assert claude_code.add_permission_mode(arguments) == [*mode, *arguments]


@pytest.mark.parametrize("place", ["bin/claude", ".local/bin/claude", ".claude/local/claude"])
def test_the_program_is_found(tmp_path: Path, place: str) -> None:
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    assert claude_code.find_claude(environment) is None
    program = tmp_path / place
    program.parent.mkdir(parents=True)
    program.touch()
    assert claude_code.find_claude(environment) is None
    program.chmod(0o700)
    assert claude_code.find_claude(environment) == str(program)


def test_a_relative_home_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".local/bin/claude"
    program.parent.mkdir(parents=True)
    program.touch(0o700)
    monkeypatch.chdir(tmp_path)
    assert claude_code.find_claude({"PATH": str(tmp_path / "bin")}) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("{", []),
        ("[]", []),
        ('{"env": null}', []),
        ('{"env": []}', []),
        ('{"model": "opus"}', []),
        ('{"env": {"OTHER": "1"}}', []),
        (
            json.dumps({"env": {"ANTHROPIC_MODEL": "m", "ANTHROPIC_BASE_URL": "u"}}),
            ["ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"],
        ),
    ],
)
@pytest.mark.parametrize("variable", ["HOME", "CLAUDE_CONFIG_DIR"])
def test_settings_with_priority_are_found(
    tmp_path: Path, text: str | None, names: list[str], variable: str
) -> None:
    directory = tmp_path / ".claude" if variable == "HOME" else tmp_path
    directory.mkdir(exist_ok=True)
    if text is not None:
        (directory / "settings.json").write_text(text)
    assert claude_code.find_overriding_settings({variable: str(tmp_path)}) == names
