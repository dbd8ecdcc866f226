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
_LISTEN_STATE = "0A"
_PROXY_NAMES = re.compile(r"anthropic[-_]proxy")
_OTHER_PORT_HINT = "choose another port with --port or PORT"


@dataclass(frozen=True)
class PortOwner:
    """The process that listens on a port."""

    pid: int
    # Of its program.
    name: str
    is_anthropic_proxy: bool


def describe_port_conflict(host: str, port: int) -> str:
    """Return what to do about a port that is in use. host: IPv4 or IPv6 address to listen on."""
    owner = find_port_owner(host, port)
    if owner is None:
        return f"another program listens there: end it, or {_OTHER_PORT_HINT}"
    if owner.is_anthropic_proxy:
        return f"PID {owner.pid} is an anthropic-proxy: end it with `kill {owner.pid}`, or {_OTHER_PORT_HINT}"
    return f"PID {owner.pid} ({owner.name}) listens there: end it, or {_OTHER_PORT_HINT}"


def find_port_owner(host: str, port: int) -> PortOwner | None:
    """Return the process that keeps this one from listening on an address and port; None where it is not certain.

    Of several processes that share a socket it is the one that started the others.
    """
    links = {f"socket:[{inode}]" for inode in _find_inodes(host, port)}
    owners = {pid for pid in _list_pids() if links and _has_open_socket(pid, links)}
    first = [pid for pid in owners if _read_parent_pid(pid) not in owners]
    return _read_owner(first[0]) if len(first) == 1 else None


def _find_inodes(host: str, port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on an address and port (proc(5), /proc/net/tcp)."""
    requested = _plain(ipaddress.ip_address(host.partition("%")[0]))
    for table in ("tcp", "tcp6"):
        for line in _read_text(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if fields[3] != _LISTEN_STATE or int(number, 16) != port:
                continue
            if _conflicts(_parse_address(address), requested):
                yield fields[9]


def _parse_address(text: str) -> _Address:
    """Parse an address of /proc/net/tcp: words of 32 bits in hexadecimal, each in the byte order of the machine."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    raw = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return _plain(ipaddress.ip_address(raw))


def _plain(address: _Address) -> _Address:
    """Return the IPv4 address where an IPv6 address stands for one."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _conflicts(used: _Address, requested: _Address) -> bool:
    """Return whether a socket on one address keeps another one from listening on the other address.

    `::` takes IPv4 as well, unless the socket is set to IPv6 only, which /proc does not show.
    """
    if used == requested:
        return True
    takes_all = [each for each in (used, requested) if each.is_unspecified]
    return any(each.version == 6 or used.version == requested.version for each in takes_all)


def _list_pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _has_open_socket(pid: int, links: set[str]) -> bool:
    # Other users' processes, and those that end just now, can't be read.
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in links:
                    return True
    return False


def _read_parent_pid(pid: int) -> int:
    # The name of the program stands before, in parentheses, and may hold any character.
    fields = _read_text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _read_owner(pid: int) -> PortOwner:
    command = _read_text(_PROC / str(pid) / "cmdline").split("\0")
    name = Path(command[0]).name
    # An interpreter's first arguments say what it runs.
    is_anthropic_proxy = any(_PROXY_NAMES.search(Path(argument).name) for argument in command[:4])
    return PortOwner(pid, name if name.isprintable() else repr(name), is_anthropic_proxy)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
