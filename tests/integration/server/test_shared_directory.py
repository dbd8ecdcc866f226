"""The directory that workers share, and the removal of leftovers of killed servers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from anthropic_proxy.server import shared_directory
from anthropic_proxy.server.shared_directory import create_shared_directory
from tests.support.running_command import Command, until
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# A supervisor that ends without cleaning up, and a worker that runs until its input ends.
_SERVER = """
import os, sys
from anthropic_proxy.server.shared_directory import create_shared_directory
with create_shared_directory() as directory:
    if os.fork() == 0:
        print(directory, flush=True)
        sys.stdin.read()
    os._exit(0)
"""


def test_the_directory_exists_during_the_block(temporary: Path) -> None:
    with create_shared_directory() as first, create_shared_directory() as second:
        for directory in (first, second):
            (Path(directory) / "a.db").write_bytes(b"1")
        assert sorted(map(str, temporary.iterdir())) == sorted([first, second])
    assert list(temporary.iterdir()) == []


def test_a_directory_stays_until_its_last_process_ends(temporary: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    with server:
        assert server.stdout is not None
        directory = Path(server.stdout.readline().decode().strip())
        assert server.wait(DEADLINE) == 0
        with create_shared_directory():
            assert directory.is_dir()
    until(lambda: _is_unlocked(directory), "the worker ends")
    with create_shared_directory():
        assert not directory.exists()


def test_only_directories_of_the_proxy_are_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = temporary / "target"
    names = ["anthropic-proxy-demo-1", "anthropic-proxy-old", "other", "target"]
    for name in names:
        (temporary / name).mkdir()
        (temporary / name / "a").write_bytes(b"1")
    (temporary / "anthropic-proxy-workers-file").write_bytes(b"1")
    (temporary / "anthropic-proxy-workers-link").symlink_to(target)
    (temporary / "anthropic-proxy-workers-dead").mkdir()
    with create_shared_directory():
        assert not (temporary / "anthropic-proxy-workers-dead").exists()
    names += ["anthropic-proxy-workers-file", "anthropic-proxy-workers-link"]
    assert {path.name for path in temporary.iterdir()} == set(names)
    assert (target / "a").exists()
    (temporary / "anthropic-proxy-workers-foreign").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with create_shared_directory():
        assert (temporary / "anthropic-proxy-workers-foreign").exists()


def test_a_directory_that_another_server_removed_is_created_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server may start between the creation of the directory and its lock."""
    lock = shared_directory._lock
    removed: list[Path] = []

    def remove_first(descriptor: int, *, wait: bool = True) -> None:
        if not removed:
            removed.extend(temporary.iterdir())
            removed[0].rmdir()
        lock(descriptor, wait=wait)

    monkeypatch.setattr(shared_directory, "_lock", remove_first)
    with create_shared_directory() as directory:
        assert list(temporary.iterdir()) == [Path(directory)] != removed


def test_a_file_system_without_locks(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int, *, wait: bool = True) -> None:
        raise OSError(f"no locks, {wait}")

    monkeypatch.setattr(shared_directory, "_lock", fail)
    with create_shared_directory() as first, create_shared_directory():
        assert Path(first).is_dir()


def test_the_next_server_removes_the_directory_of_a_killed_server(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables = {"UPSTREAM_BASE_URL": upstream.url, "WORKERS": "2", "TMPDIR": str(temporary)}
    with Command(tmp_path).serving(**variables) as killed:
        (left,) = temporary.iterdir()
        killed.process.kill()
        killed.process.wait()
    until(lambda: _is_unlocked(left), "the workers end")
    with Command(tmp_path).serving(**variables) as server:
        (used,) = temporary.iterdir()
        assert used != left
        assert server.end()[0] == 0
    assert list(temporary.iterdir()) == []


def _is_unlocked(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        shared_directory._lock(descriptor, wait=False)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
