"""The README's quick start in a terminal, with the real Claude Code and a person's keys."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.claude_code.accents import Said, call
from tests.claude_code.strict_upstream import Conversation, Refused, Script, StrictUpstream
from tests.support.readme import Place, quick_start, read_section
from tests.support.running_command import Command

if sys.platform != "win32":
    from tests.claude_code.terminal import shell

QUESTION = "What is the capital of France?"
CLAUDE_PROMPT = "❯"  # noqa: RUF001 - as it is drawn
ANSWER = "The capital of France is Paris, on the Seine."

# The first start of Claude Code asks for a theme, and in each new folder whether to trust it.
_ANSWERED = {"hasCompletedOnboarding": True, "theme": "dark"}
_QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


@pytest.fixture
def place(claude_binary: str, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    place.install("claude", f"exec '{claude_binary}' \"$@\"")
    config = {**_ANSWERED, "projects": {str(place.work): {"hasTrustDialogAccepted": True}}}
    (place.home / ".claude.json").write_text(json.dumps(config))
    yield place
    place.clean()


def _answer(asked: Conversation) -> Said:
    assert QUESTION in asked.text
    return Said(ANSWER)


def test_the_quick_start(place: Place) -> None:
    """The command of the README: the screen shows the response, and no line of the log."""
    commands = [command for block in quick_start() for command in block.commands]
    (command,) = [command for command in commands if "claude --upstream" in command]
    with (
        StrictUpstream(_answer, "openai", ()).running() as upstream,
        shell(place.work, {**place.environment, **_QUIET}) as terminal,
    ):
        terminal.wait_for_prompt()
        terminal.enter(command.replace("http://localhost:11434", upstream.url))
        terminal.wait_for(CLAUDE_PROMPT)
        terminal.enter(QUESTION)
        terminal.wait_for(ANSWER)
        shown = terminal.screen.text
        terminal.enter("/exit")
        terminal.wait_for_prompt()
    (place.folder / "screen.txt").write_text(shown)
    assert upstream.problems == []
    (log,) = place.log.parent.glob("claude-*.log")
    lines = log.read_text().splitlines()
    requests = [line for line in lines if "operation" in line]
    assert requests, "the request is in the log"
    assert "operation" not in shown
    assert b"operation" not in terminal.raw


def _refuse(_: Conversation) -> Refused:
    return Refused(404, "The model does not exist")


def _run_command(asked: Conversation) -> Said:
    """Call a tool that auto mode checks, and return no verdict for the check."""
    if "Bash" in asked.tools and not asked.results:
        return call("Bash", command="curl -s http://127.0.0.1:9/", description="Request a page")
    return Said(ANSWER)


@dataclass(frozen=True)
class Trouble:
    """A mistake, and Claude Code's message about it. variables: of Claude Code; a value of None
    unsets one.
    """

    id: str
    text: str
    variables: dict[str, str | None] = field(default_factory=dict)
    proxy: dict[str, str] = field(default_factory=dict)
    asks: bool = True
    script: Script = _refuse


NOT_LOGGED_IN = "Not logged in · Please run /login"
UNKNOWN_MODEL = (
    "There's an issue with the selected model (...). "
    "It may not exist or you may not have access to it."
)
TROUBLES = [
    Trouble("no-token", NOT_LOGGED_IN, {"ANTHROPIC_AUTH_TOKEN": None}),
    Trouble(
        "unknown-token",
        NOT_LOGGED_IN,
        proxy={"PROXY_API_KEYS": "alice=a-key-of-alice", "HOST": "127.0.0.1"},
    ),
    Trouble(
        "api-key",
        "Detected a custom API key in your environment",
        {"ANTHROPIC_AUTH_TOKEN": None, "ANTHROPIC_API_KEY": "none"},
        asks=False,
    ),
    Trouble("unknown-model", UNKNOWN_MODEL),
    Trouble(
        "window", 'Model "..." isn\'t recognized · context assumed to be 1m tokens', asks=False
    ),
    Trouble(
        "no-proxy",
        "API Error: Connection refused",
        {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "CLAUDE_CODE_MAX_RETRIES": "0"},
    ),
    Trouble(
        "auto-mode-server",
        "Auto mode can't check actions in this session",
        script=_run_command,
    ),
    Trouble(
        "auto-mode-verdict",
        "Not run · auto mode's check had no usable answer",
        {"CLAUDE_CODE_AUTO_MODE_SERVER": "0"},
        script=_run_command,
    ),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.id)
def test_the_texts_of_the_troubleshooting_table(place: Place, trouble: Trouble) -> None:
    """The page quotes the texts that are really on the screen."""
    table = read_section("docs/troubleshooting.md", "Messages of Claude Code")
    assert f"| `{trouble.text}` |" in table
    with (
        StrictUpstream(trouble.script, "openai", ()).running() as upstream,
        Command(place.folder).serving(UPSTREAM_BASE_URL=upstream.url, **trouble.proxy) as proxy,
    ):
        variables = {
            "ANTHROPIC_BASE_URL": proxy.address,
            "ANTHROPIC_AUTH_TOKEN": "any-value",
            **trouble.variables,
        }
        given = {name: value for name, value in variables.items() if value is not None}
        with shell(place.work, {**place.environment, **_QUIET, **given}) as terminal:
            terminal.wait_for_prompt()
            terminal.enter("claude --model qwen/qwen3-coder")
            if trouble.asks:
                terminal.wait_for(CLAUDE_PROMPT)
                terminal.enter(QUESTION)
            for part in trouble.text.split("..."):
                terminal.wait_for(part)
