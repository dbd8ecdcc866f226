"""Fail a test run in CI where a test is skipped for a reason that CI does not accept.

A test whose tool is missing is skipped on a developer's machine. CI installs all tools, so there
the same skip means that something is no longer tested. `CI=true` turns it into a failure.
"""

import os
import re
from collections.abc import Generator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class AllowedSkip:
    """Tests that CI may skip."""

    path: str  # the beginning of the test's id
    reason: str  # a regular expression for the whole reason that pytest reports
    unless: str = ""  # an environment variable that withdraws the permission


ALLOWED_SKIPS = (
    # `make test-fronts` runs them, with the front proxies that it installs.
    AllowedSkip("tests/fronts/", r"\w+ is not installed: make test-fronts", unless="FRONTS"),
    # Recordings that may not be copied into the repository.
    AllowedSkip(
        "tests/integration/replay/", r"(only the project's own recordings: )?there is no .*"
    ),
    AllowedSkip("tests/integration/sdk/test_claude_code.py", r"no recordings in .*/claude-code"),
    # The second run of the SDK's tests, with an older SDK.
    AllowedSkip("tests/integration/sdk/test_sdk_helpers.py", r"anthropic 0\.\S+ has no threads"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_unless_allowed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_unless_allowed(report)
    return report


def _fail_unless_allowed(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _reason(report)
    if not any(_allows(allowed, report.nodeid, reason) for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"


def _allows(allowed: AllowedSkip, nodeid: str, reason: str) -> bool:
    return (
        nodeid.startswith(allowed.path)
        and re.fullmatch(allowed.reason, reason) is not None
        and not os.environ.get(allowed.unless)
    )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why the test is skipped; pytest reports path, line and reason."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
