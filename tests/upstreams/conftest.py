"""Real server <- the proxy <- the official SDK; and the table of what came of it.

Only `make test-upstreams` runs these tests: elsewhere they are deselected, and the summary says so.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anthropic
import pytest

from tests.support.running_proxy import running_proxy
from tests.upstreams.ollama import Unavailable
from tests.upstreams.servers import KINDS, Kind

DEADLINE = 180  # seconds; a busy machine computes slowly

_OUTCOMES = ("passed", "failed", "error", "skipped")
_NAMES = tuple(kind.name for kind in KINDS)

_HERE = Path(__file__).parent
_DESELECTED = pytest.StashKey[int]()


@dataclass(frozen=True)
class Server:
    """A running server, the proxy's base URL in front of it, and the SDK's client of that."""

    kind: Kind
    url: str
    proxy: str
    client: anthropic.Anthropic


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(kind.running())
        except Unavailable as missing:
            pytest.skip(str(missing))
        proxy = stack.enter_context(running_proxy(url, UPSTREAM_EXTRA_BODY=kind.extra_body))
        client = anthropic.Anthropic(
            base_url=proxy,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        )
        yield Server(kind, url, proxy, stack.enter_context(client))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if _HERE in item.path.parents]
    if os.environ.get("TEST_UPSTREAMS"):
        for item in ours:
            assert isinstance(item, pytest.Function)
            kind = item.callspec.params["server"]
            assert isinstance(kind, Kind)
            item.user_properties.append(("server", kind.name))
        return
    config.stash[_DESELECTED] = len(ours)
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in ours]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if deselected := config.stash.get(_DESELECTED, 0):
        terminalreporter.write_line(
            f"{deselected} checks with real servers are deselected: make test-upstreams"
        )
    reports = [
        (outcome, report)
        for outcome in _OUTCOMES
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(
            report, pytest.TestReport
        )  # modules that can't be collected report errors, too
    ]
    rows = [
        (name, [each for each in reports if ("server", name) in each[1].user_properties])
        for name in _NAMES
    ]
    if any(seen for _, seen in rows):
        terminalreporter.section("servers")
        terminalreporter.write_line(
            f"{'server':14}" + "".join(f"{outcome:>9}" for outcome in _OUTCOMES) + "  result"
        )
        for name, seen in rows:
            terminalreporter.write_line(_row(name, seen))


def _row(name: str, seen: list[tuple[str, pytest.TestReport]]) -> str:
    counts = [sum(outcome == each for each, _ in seen) for outcome in _OUTCOMES]
    result = (
        "failed"
        if counts[1] + counts[2]
        else "passed"
        if counts[0]
        else "skipped: " + _reason(seen)
    )
    return f"{name:14}" + "".join(f"{count:>9}" for count in counts) + f"  {result}"


def _reason(skipped: list[tuple[str, pytest.TestReport]]) -> str:
    """Why a server is not there; every check of it says so."""
    where = skipped[0][1].longrepr if skipped else None
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else "not asked"
