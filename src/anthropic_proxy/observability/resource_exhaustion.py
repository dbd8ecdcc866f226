"""Detect local resource exhaustion (file descriptors, buffers) and log it.

A connection that fails for this reason is not a failure of the upstream.
"""

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

# Without EADDRNOTAVAIL, which also means that the machine has no address of the upstream's family
# (a container without IPv6).
_BY_ERRNO: Mapping[int, str] = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.ENOBUFS: "buffers for connections",
    errno.ENOMEM: "memory for connections",
}
_HINTS: Mapping[str, str] = {
    FILES: "raise the limit (ulimit -n, LimitNOFILE of systemd): "
    "at the limit, new connections are closed at once",
}

# Minimum seconds between two log lines about the same resource.
_LOG_INTERVAL = 60.0
_WARNING_SHARE = 0.9
# The size of this directory is the number of open descriptors (since Linux 6.2; earlier 0). Listing
# thousands of descriptors would take too long.
_OPEN_FILES = Path("/proc/self/fd")


def find_exhausted_resource(error: Exception) -> str | None:
    """Return the exhausted resource that caused a connection error; None for other causes."""
    # aiohttp wraps the error of the socket.
    os_error = getattr(error, "os_error", error)
    if not isinstance(os_error, OSError) or isinstance(os_error, ssl.SSLError):
        return None
    is_name_error = isinstance(os_error, socket.gaierror)
    if not is_name_error and os_error.errno is not None:
        return _BY_ERRNO.get(os_error.errno)
    # If no descriptor is free, resolvers report an unknown name. Errors for several addresses have
    # no errno.
    return FILES if _lowest_free_descriptor() is None else None


def is_out_of_files(error: OSError) -> bool:
    """Return whether an error was caused by a lack of file descriptors."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def _lowest_free_descriptor() -> int | None:
    """Return the lowest free file descriptor; None if there is none, 0 if unknown."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        return None if is_out_of_files(error) else 0
    os.close(descriptor)
    return descriptor


@dataclass(frozen=True)
class OpenFiles:
    """Number and limit of the file descriptors of the process."""

    # Lower bound of the open descriptors.
    count: int
    limit: int


def count_open_files() -> OpenFiles | None:
    """Return the number of open file descriptors; None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource  # not available on Windows

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    free = _lowest_free_descriptor()
    if free is None:
        return OpenFiles(limit, limit)
    # All descriptors below the lowest free descriptor are open.
    return OpenFiles(max(free, _count_listed()), limit)


def _count_listed() -> int:
    try:
        return _OPEN_FILES.stat().st_size
    except OSError:
        return 0  # not Linux


class _Log(Protocol):
    def error(self, event: str, **values: object) -> None: ...


class ExhaustionLog:
    """Log exhausted resources, each at most once a minute."""

    def __init__(self, log: _Log, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the log. clock: returns monotonic time in seconds."""
        self._log = log
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def report(self, resource: str) -> None:
        """Log an exhausted resource that caused a connection error."""
        self._log_once("resource exhausted", resource)

    def check_files(self, files: OpenFiles | None) -> None:
        """Log that most file descriptors are in use: at the limit, connections close silently."""
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
