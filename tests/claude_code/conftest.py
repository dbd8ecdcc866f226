"""Claude Code -> the real proxy in its own process -> the strict upstream; and a table of the
results.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.claude_code import claude
from tests.claude_code.claude import Outcome
from tests.claude_code.strict_upstream import Script, StrictUpstream
from tests.support.running_command import Command

# What the table tells of each scenario.
_COLUMNS = ("requests", "refused", "seconds")

_DESELECTED = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the CLI its scenarios are deselected; the summary says so."""
    if claude.BINARY:
        return
    scenarios = [item for item in items if "claude_binary" in getattr(item, "fixturenames", ())]
    config.stash[_DESELECTED] = len(scenarios)
    config.hook.pytest_deselected(items=scenarios)
    items[:] = [item for item in items if item not in scenarios]


@dataclass
class Scene:
    """A workspace of files, an upstream with its script, and the proxy between them, with its
    log.
    """

    workspace: Path
    home: Path
    upstream: StrictUpstream
    address: str
    log: Path
    record: Callable[[str, object], None]
    seconds: float = 0

    def claude(self, prompt: str, *arguments: str, **variables: str) -> Outcome:
        """Run the CLI; its exit code must be 0, and only the script may have refused requests."""
        outcome = self._run(prompt, *arguments, **variables)
        assert outcome.code == 0, outcome
        assert (outcome.result["type"], outcome.result["is_error"]) == ("result", False), (
            outcome.result
        )
        return outcome

    def failing_claude(self, prompt: str) -> str:
        """Run the CLI, which must report an error. Return its text."""
        outcome = self._run(prompt)
        assert (outcome.result["type"], outcome.result["is_error"]) == ("result", True), (
            outcome.result
        )
        return str(outcome.result["result"])

    def _run(self, prompt: str, *arguments: str, **variables: str) -> Outcome:
        outcome = claude.run(
            self.address, self.home, self.workspace, prompt, *arguments, **variables
        )
        self.seconds += outcome.seconds
        self.record("requests", len(self.upstream.exchanges))
        self.record("refused", sum(exchange.status >= 400 for exchange in self.upstream.exchanges))
        self.record("seconds", f"{self.seconds:.1f}")
        assert self.upstream.problems == []
        return outcome

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return self.upstream.bodies


StartScene = Callable[..., Scene]


@pytest.fixture
def claude_binary() -> str:
    """The path of the CLI; a test that wants it is deselected where there is none."""
    return claude.BINARY


@pytest.fixture
def scene(
    claude_binary: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[StartScene]:
    """Start a scene: `scene(script, accent="openai", extra_fields=())`."""
    with contextlib.ExitStack() as stack:

        def start(
            script: Script, accent: str = "openai", extra_fields: tuple[str, ...] = ()
        ) -> Scene:
            for name in ("home", "proxy", "workspace"):
                (tmp_path / name).mkdir()
            upstream = stack.enter_context(StrictUpstream(script, accent, extra_fields).running())
            variables = {"UPSTREAM_BASE_URL": upstream.url, "HOST": "127.0.0.1"}
            running = stack.enter_context(Command(tmp_path / "proxy").serving(**variables))
            return Scene(
                tmp_path / "workspace",
                tmp_path / "home",
                upstream,
                running.address,
                running.log,
                record_property,
            )

        yield start


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if deselected := config.stash.get(_DESELECTED, 0):
        terminalreporter.write_line(
            f"{deselected} scenarios of the real Claude Code are deselected: make test-claude-code"
        )
    stats = terminalreporter.stats
    reports = [report for outcome in ("passed", "failed") for report in stats.get(outcome, ())]
    rows = [
        (report, dict(report.user_properties))
        for report in reports
        if dict(report.user_properties).keys() >= set(_COLUMNS)
    ]
    if not rows:
        return
    terminalreporter.section("Claude Code")
    terminalreporter.write_line(
        f"{'scenario':58} {'result':8} " + " ".join(f"{name:>8}" for name in _COLUMNS)
    )
    for report, seen in sorted(rows, key=lambda row: row[0].nodeid):
        figures = " ".join(f"{seen[name]!s:>8}" for name in _COLUMNS)
        terminalreporter.write_line(
            f"{report.nodeid.partition('::test_')[2]:58} {report.outcome:8} {figures}"
        )
