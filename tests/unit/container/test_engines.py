"""The container tests are skipped with the engine's own reason where it lacks a tool."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from container import engines

PAUSE = 'Error: building local pause image: finding pause binary: exec: "catatonit": executable file not found in $PATH'


def _install(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the engines are scripts of a shell")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", ""),
        (
            f"echo 'a warning' >&2; echo '{PAUSE}' >&2; exit 125",
            f"podman pod create --replace --name anthropic-proxy-probe failed: {PAUSE}",
        ),
        ("exit 3", "podman pod create --replace --name anthropic-proxy-probe failed: exit code 3"),
        (
            '[ "$2" = create ] || { echo "no such pod" >&2; exit 1; }',
            "podman pod rm --force anthropic-proxy-probe failed: no such pod",
        ),
    ],
    ids=["usable", "no-catatonit", "no-words", "not-removable"],
)
def test_a_pod_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    _install(tmp_path, "podman", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engines.pod_failure() == reason


@pytest.mark.parametrize(
    "check", [engines.docker_failure, engines.compose_failure, engines.pod_failure]
)
def test_an_engine_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[], str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check().endswith(" is not installed")
