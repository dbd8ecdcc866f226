"""Which process listens on a port that is in use, as far as Linux lets this user see it."""

import contextlib
import ipaddress
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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


def hint(host: str, port: int) -> str:
    """Return what to do about a port that is in use. host: IPv4 or IPv6 address to listen on."""
    owner = owner_of(host, port)
    if owner is None:
        return f"another program listens there: end it, or {_OTHER_PORT}"
    if owner.is_ours:
        return f"PID {owner.pid} is an anthropic-proxy: end it with `kill {owner.pid}`, or {_OTHER_PORT}"
    return f"PID {owner.pid} ({owner.name}) listens there: end it, or {_OTHER_PORT}"


def owner_of(host: str, port: int) -> Owner | None:
    """Return the process that keeps this one from listening on an address and port; None where it is not certain.

    Of several processes that share a socket it is the one that started the others.
    """
    links = {f"socket:[{inode}]" for inode in _inodes(host, port)}
    owners = {pid for pid in _processes() if links and _has_opened(pid, links)}
    first = [pid for pid in owners if _parent(pid) not in owners]
    return _owner(first[0]) if len(first) == 1 else None


def _inodes(host: str, port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on an address and port (proc(5), /proc/net/tcp)."""
    wanted = _plain(ipaddress.ip_address(host.partition("%")[0]))
    for table in ("tcp", "tcp6"):
        for line in _text(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if fields[3] != _LISTENS or int(number, 16) != port:
                continue
            if _conflicts(_address(address), wanted):
                yield fields[9]


def _address(text: str) -> _Address:
    """Parse an address of /proc/net/tcp: words of 32 bits in hexadecimal, each in the byte order of the machine."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    raw = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return _plain(ipaddress.ip_address(raw))


def _plain(address: _Address) -> _Address:
    """Return the IPv4 address where an IPv6 address stands for one."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _conflicts(used: _Address, wanted: _Address) -> bool:
    """Return whether a socket on one address keeps another one from listening on the other address.

    `::` takes IPv4 as well, unless the socket has been told otherwise, which /proc does not show.
    """
    if used == wanted:
        return True
    takes_all = [each for each in (used, wanted) if each.is_unspecified]
    return any(each.version == 6 or used.version == wanted.version for each in takes_all)


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
