"""Which process listens on a port that is in use, as far as Linux lets this user see it."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = "0A"
_OUR_NAMES = re.compile(r"anthropic[-_]proxy")
_OTHER_PORT = "choose another port with --port or PORT"


@dataclass(frozen=True)
class Owner:
    """A process. name: of its program. is_ours: whether it is an anthropic-proxy."""

    pid: int
    name: str
    is_ours: bool


def hint(port: int) -> str:
    """Return what to do about a port that is in use."""
    owner = owner_of(port)
    if owner is None:
        return f"another program listens there: end it, or {_OTHER_PORT}"
    if owner.is_ours:
        return f"PID {owner.pid} is an anthropic-proxy: end it with `kill {owner.pid}`, or {_OTHER_PORT}"
    return f"PID {owner.pid} ({owner.name}) listens there: end it, or {_OTHER_PORT}"


def owner_of(port: int) -> Owner | None:
    """Return the process that listens on a port: of several that share it, the one that started the others."""
    links = {f"socket:[{inode}]" for inode in _inodes(port)}
    owners = {pid for pid in _processes() if links and _has_opened(pid, links)}
    first = next((pid for pid in sorted(owners) if _parent(pid) not in owners), None)
    return None if first is None else _owner(first)


def _inodes(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port (proc(5), /proc/net/tcp)."""
    for table in ("tcp", "tcp6"):
        for line in _text(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _has_opened(pid: int, links: set[str]) -> bool:
    # Other users' processes, and those that end just now, can't be read.
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in links:
                    return True
    return False


def _parent(pid: int) -> int:
    # The name of the program stands before, in parentheses, and may hold any character.
    fields = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _owner(pid: int) -> Owner:
    command = _text(_PROC / str(pid) / "cmdline").split("\0")
    name = Path(command[0]).name
    # An interpreter's first arguments say what it runs.
    is_ours = any(_OUR_NAMES.search(Path(argument).name) for argument in command[:4])
    return Owner(pid, name if name.isprintable() else repr(name), is_ours)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
