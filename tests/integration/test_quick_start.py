"""The README's quick start does what it says, run line by line as it is printed.

Only the internet is replaced: the upstream is scripted, and a small program replaces Claude Code.
`tests/claude_code/test_terminal.py` runs the same lines with the real one.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthropic_proxy.demo import run
from tests.claude_code.accents import Said
from tests.claude_code.strict_upstream import StrictUpstream
from tests.support.paths import ROOT
from tests.support.readme import Block, Place, quick_start
from tests.support.running_command import refuses_connections

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the README's commands are those of a Unix shell"
)

SECONDS = 120
BLOCKS = quick_start()
SERVERS = [block for block in BLOCKS if block.name != "install"]

# Sends the one request that it takes to see whether the variables are right.
CLAUDE = """\
import os
import sys
import httpx
option, model = sys.argv[1:]
assert option == "--model"
assert "ANTHROPIC_API_KEY" not in os.environ
body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
headers = {"authorization": f"Bearer {os.environ['ANTHROPIC_AUTH_TOKEN']}"}
url = f"{os.environ['ANTHROPIC_BASE_URL']}/v1/messages"
answer = httpx.post(url, json=body, headers=headers, trust_env=False)
print(answer.json()["content"][0]["text"])
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.clean()


def _run(place: Place, commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the commands in one shell, which ends at the first that fails."""
    return subprocess.run(
        ["/bin/sh", "-e"],
        input="\n".join(commands),
        cwd=place.work,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_all_blocks_are_known() -> None:
    assert [block.name for block in BLOCKS] == ["install", "OpenRouter", "OpenAI", "Ollama"]
    assert [len(block.commands) for block in SERVERS] == [3, 3, 3]


@pytest.mark.parametrize("block", SERVERS, ids=lambda block: block.name)
def test_a_server_is_used_and_stopped(place: Place, block: Block) -> None:
    stand_in = place.folder / "claude.py"
    stand_in.write_text(CLAUDE)
    place.install("claude", f"exec '{sys.executable}' '{stand_in}' \"$@\"")
    with StrictUpstream(lambda _: Said("Paris."), "openai", ()).running() as upstream:
        done = _run(place, [place.here(command, upstream.url) for command in block.commands])
    assert done.returncode == 0, done.stderr
    first, *_, answer, stopped = done.stdout.splitlines()
    assert (first, answer) == (f"✓ Daemon started, listening on {place.address}", "Paris.")
    assert stopped.startswith("✓ Daemon stopped")
    assert [body["model"] for body in upstream.bodies] == [block.commands[1].split()[-1]]
    assert upstream.problems == []
    assert not place.is_running()
    assert refuses_connections(place.address)


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="it clones the checkout with git",
)
def test_the_checkout_is_cloned_and_has_an_environment(place: Place) -> None:
    """The package itself is not installed: that needs the internet."""
    (install,) = [block for block in BLOCKS if block.name == "install"]
    *commands, last = [
        command.replace("<address of this repository>", f"'{ROOT}'") for command in install.commands
    ]
    assert last == "pip install ."
    # The checkout may belong to another user.
    (place.home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    done = _run(place, [*commands, "command -v pip", "ls"])
    assert done.returncode == 0, done.stderr
    pip, *files = done.stdout.splitlines()
    assert pip == str(place.work / "anthropic-proxy/.venv/bin/pip")
    assert "pyproject.toml" in files


def test_the_demo_prints_the_same() -> None:
    (block,) = [block for block in SERVERS if block.name == "OpenRouter"]
    printed = run.CLAUDE_CODE.format(command="anthropic-proxy")
    assert tuple(line.strip() for line in printed.splitlines()) == block.commands


@pytest.mark.parametrize("on_path", [True, False])
def test_the_demo_names_a_command_that_can_be_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, on_path: bool
) -> None:
    """Also where nobody has activated the environment that `make demo` has made."""
    monkeypatch.setenv("PATH", str(tmp_path))
    command = str(Path(sys.executable).with_name("anthropic-proxy"))
    if on_path:
        command = "anthropic-proxy"
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    assert run.format_claude_code_commands().splitlines()[-1] == f"  {command} stop"
