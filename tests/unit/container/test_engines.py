"""The container tests are skipped with the engine's own reason where it lacks a tool."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from container import engines

CREATE = "podman pod create --replace --network=host --name anthropic-proxy-probe"
PAUSE = (
    'Error: building local pause image: finding pause binary: exec: "catatonit": '
    "executable file not found in $PATH"
)
LIMITS = "Error: runc: error setting rlimit type 7: operation not permitted: OCI permission denied"


def _install(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the engines are scripts of a shell")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", ""),
        (f"echo 'a warning' >&2; echo '{PAUSE}' >&2; exit 125", f"{CREATE} failed: {PAUSE}"),
        ("exit 3", f"{CREATE} failed: exit code 3"),
        (
            f"[ $2 != start ] || {{ echo '{LIMITS}' >&2; exit 125; }}",
            f"podman pod start anthropic-proxy-probe failed: {LIMITS}",
        ),
        (
            "[ $2 != rm ] || { echo 'no such pod' >&2; exit 1; }",
            "podman pod rm --force --ignore anthropic-proxy-probe failed: no such pod",
        ),
    ],
    ids=["usable", "no-catatonit", "no-words", "not-started", "not-removable"],
)
def test_a_pod_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    _install(tmp_path, "podman", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engines.pod_failure() == reason


@pytest.mark.skipif(sys.platform == "win32", reason="the engines are scripts of a shell")
def test_a_pod_that_does_not_start_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, "podman", f'echo "$*" >> {tmp_path}/calls; [ $2 != start ]')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pod start" in engines.pod_failure()
    assert (tmp_path / "calls").read_text().splitlines()[
        -1
    ] == "pod rm --force --ignore anthropic-proxy-probe"


@pytest.mark.parametrize(
    "check", [engines.docker_failure, engines.compose_failure, engines.pod_failure]
)
def test_an_engine_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[], str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check().endswith(" is not installed")
