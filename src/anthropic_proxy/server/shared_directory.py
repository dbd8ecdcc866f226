"""The temporary directory with the files that the workers of one server share.

The supervisor deletes the directory at its end. If it was killed, the next start of a server with
several workers does. A lock on the directory shows that a process of the server lives: the workers
inherit it, and the kernel releases it when the last of them has ended. systemd-tmpfiles also keeps
directories with this lock (https://systemd.io/TEMPORARY_DIRECTORIES/).
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Servers of version 0.1.0 did not lock their directories, whose names began with anthropic-proxy-.
_PREFIX = "anthropic-proxy-workers-"


@contextlib.contextmanager
def create_shared_directory() -> Iterator[str]:
    """Create the directory, and delete it at the end of the block.

    Processes that are forked in the block inherit the lock. Removes leftovers of ended servers.
    """
    if sys.platform == "win32":
        # The supervisor rejects several workers.
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory:
            yield directory
        return
    _remove_leftovers()
    directory, lock = _create_locked()
    try:
        yield directory
    finally:
        # The next start removes what cannot be removed now.
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _create_locked() -> tuple[str, int]:
    """Return a new directory, and the descriptor that holds its lock."""
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX)
        # Another server that starts may remove the directory before it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY)
            # Without the lock, as on some network file systems, no server removes the directory.
            with contextlib.suppress(OSError):
                _lock(lock)
            if Path(directory).exists():
                return directory, lock
            os.close(lock)


def _remove_leftovers() -> None:
    """Remove the directories of servers of this user that have ended."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # A directory that is in use or belongs to another user stays.
        with contextlib.suppress(OSError):
            _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    """Remove a directory. Raises OSError if a process has locked it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            _lock(descriptor, wait=False)
            shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = True) -> None:
    """Lock a directory. Raises BlockingIOError if another process has locked it."""
    import fcntl  # not available on Windows

    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
