"""Detect that the process runs out of file descriptors or buffers: no upstream failed."""

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

# EADDRNOTAVAIL is missing, because it also means that the machine has no address of the upstream's
# family (a container without IPv6).
_BY_ERRNO: Mapping[int, str] = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.ENOBUFS: "buffers for connections",
    errno.ENOMEM: "memory for connections",
}
_HINTS: Mapping[str, str] = {
    FILES: "raise the limit (ulimit -n, LimitNOFILE of systemd): "
    "without any left, new connections are closed at once",
}

# Seconds between two lines about the same resource.
_LOG_INTERVAL = 60.0
_WARNING_SHARE = 0.9
# Its size is the number of open descriptors from Linux 6.2 on, and 0 before. Listing thousands of
# them would take too long.
_OPEN_FILES = Path("/proc/self/fd")


def find_exhausted_resource(error: Exception) -> str | None:
    """Return the exhausted resource that made a connection fail; None for other reasons."""
    # aiohttp wraps the error of the socket.
    os_error = getattr(error, "os_error", error)
    if not isinstance(os_error, OSError) or isinstance(os_error, ssl.SSLError):
        return None
    is_name_error = isinstance(os_error, socket.gaierror)
    if not is_name_error and os_error.errno is not None:
        return _BY_ERRNO.get(os_error.errno)
    # Resolvers report a missing descriptor as an unknown name, and errors with several addresses
    # have no errno.
    return FILES if _lowest_free_descriptor() is None else None


def is_out_of_files(error: OSError) -> bool:
    """Return whether an error means that no file descriptor was left."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def _lowest_free_descriptor() -> int | None:
    """Return the lowest free file descriptor; None when none is left, 0 when it is unknown."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        return None if is_out_of_files(error) else 0
    os.close(descriptor)
    return descriptor


@dataclass(frozen=True)
class OpenFiles:
    """File descriptors of the process."""

    # Of open ones, at least.
    count: int
    limit: int


def count_open_files() -> OpenFiles | None:
    """Return the number of open file descriptors; None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource  # Windows has none

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    free = _lowest_free_descriptor()
    if free is None:
        return OpenFiles(limit, limit)
    # All descriptors below the lowest free one are open.
    return OpenFiles(max(free, _count_listed()), limit)


def _count_listed() -> int:
    try:
        return _OPEN_FILES.stat().st_size
    except OSError:
        return 0  # only Linux has it


class _Log(Protocol):
    def error(self, event: str, **values: object) -> None: ...


class ExhaustionLog:
    """Logs exhausted resources, each at most once a minute."""

    def __init__(self, log: _Log, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: monotonic, in seconds."""
        self._log = log
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def report(self, resource: str) -> None:
        """Log an exhausted resource, which made a connection fail."""
        self._log_once("resource exhausted", resource)

    def check_files(self, files: OpenFiles | None) -> None:
        """Log that file descriptors are nearly used up. New connections would close silently."""
        if files is not None and files.count >= files.limit * _WARNING_SHARE:
            self._log_once("resource nearly exhausted", FILES, used=files.count, limit=files.limit)

    def _log_once(self, event: str, resource: str, **values: object) -> None:
        now = self._clock()
        if now < self._silent_until.get(resource, -math.inf):
            return
        self._silent_until[resource] = now + _LOG_INTERVAL
        if resource in _HINTS:
            values["hint"] = _HINTS[resource]
        self._log.error(event, resource=resource, **values)
