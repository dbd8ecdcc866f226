"""Find out when the process runs out of file descriptors or buffers: its own problem, and not an upstream's."""

import errno
import math
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FILES = "file descriptors"

# Not EADDRNOTAVAIL: it also means that the machine has no address of the upstream's family, as containers without IPv6.
_BY_ERRNO: Mapping[int, str] = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.ENOBUFS: "buffers for connections",
    errno.ENOMEM: "memory for connections",
}
_HINTS: Mapping[str, str] = {
    FILES: "raise the limit (ulimit -n, LimitNOFILE of systemd): without any left, new connections are closed at once",
}

# Seconds between two lines about the same.
_LOG_INTERVAL = 60.0
_WARNING_SHARE = 0.9
# Its size is the number of open ones, from Linux 6.2 on, and 0 before. Listing it would take too long with thousands.
_OPEN_FILES = Path("/proc/self/fd")


def find_exhausted_resource(error: Exception) -> str | None:
    """Name what the process has run out of, if that is why a connection could not be made; None if it is not."""
    # aiohttp wraps what the socket raised.
    os_error = getattr(error, "os_error", error)
    if not isinstance(os_error, OSError) or isinstance(os_error, ssl.SSLError):
        return None
    is_name_error = isinstance(os_error, socket.gaierror)
    if not is_name_error and os_error.errno is not None:
        return _BY_ERRNO.get(os_error.errno)
    # Resolvers report a missing descriptor as an unknown name, and failures with several addresses have no number.
    return FILES if _lowest_free_descriptor() is None else None


def is_out_of_files(error: OSError) -> bool:
    """Whether there was no file descriptor left."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def _lowest_free_descriptor() -> int | None:
    """Return the lowest file descriptor that is free; None when none is left, 0 when that can't be found out."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        return None if is_out_of_files(error) else 0
    os.close(descriptor)
    return descriptor


@dataclass(frozen=True)
class OpenFiles:
    """File descriptors of the process: how many are open, at least, and how many may be."""

    count: int
    limit: int


def count_open_files() -> OpenFiles | None:
    """Count the file descriptors of the process; None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource  # Windows has none

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    free = _lowest_free_descriptor()
    if free is None:
        return OpenFiles(limit, limit)
    # All below the lowest free one are open.
    return OpenFiles(max(free, _count_listed()), limit)


def _count_listed() -> int:
    try:
        return _OPEN_FILES.stat().st_size
    except OSError:
        return 0  # only Linux has it


class _Log(Protocol):
    def error(self, event: str, **values: object) -> None: ...


class ExhaustionLog:
    """Logs that the process runs out of something, at most once a minute for each thing. clock: monotonic, in seconds."""

    def __init__(self, log: _Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def report(self, resource: str) -> None:
        """Something is used up, and a connection could not be made."""
        self._log_once("resource exhausted", resource)

    def check_files(self, files: OpenFiles | None) -> None:
        """Report file descriptors that are nearly used up. Connections of clients that get none are closed silently."""
        if files is not None and files.count >= files.limit * _WARNING_SHARE:
            self._log_once("resource nearly exhausted", FILES, used=files.count, limit=files.limit)

    def _log_once(self, event: str, resource: str, **values: object) -> None:
        now = self._clock()
        if now < self._silent_until.get(resource, -math.inf):
            return
        self._silent_until[resource] = now + _LOG_INTERVAL
        hint = {"hint": _HINTS[resource]} if resource in _HINTS else {}
        self._log.error(event, resource=resource, **values, **hint)
