"""Find the process that listens on a port, from /proc (Linux)."""

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
    # Name of the program.
    name: str
    is_anthropic_proxy: bool


def describe_port_conflict(host: str, port: int) -> str:
    """Return advice about a port that is in use. host: IPv4 or IPv6 address."""
    owner = find_port_owner(host, port)
    if owner is None:
        advice = "another program listens on this port: stop it"
    elif owner.is_anthropic_proxy:
        advice = f"PID {owner.pid} is an anthropic-proxy: stop it with `kill {owner.pid}`"
    else:
        advice = f"PID {owner.pid} ({owner.name}) listens on this port: stop it"
    return f"{advice}, or {_OTHER_PORT_HINT}"


def find_port_owner(host: str, port: int) -> PortOwner | None:
    """Return the process that occupies an address and port; None if it cannot be determined.

    If several processes share the socket, return the process that started the others.
    """
    links = {f"socket:[{inode}]" for inode in _find_inodes(host, port)}
    if not links:
        return None
    owners = {pid for pid in _list_pids() if _has_open_socket(pid, links)}
    parents = [pid for pid in owners if _read_parent_pid(pid) not in owners]
    return _read_owner(parents[0]) if len(parents) == 1 else None


def _find_inodes(host: str, port: int) -> Iterator[str]:
    """Yield the inodes of sockets that conflict with an address and port (/proc/net/tcp)."""
    requested = _unmap(ipaddress.ip_address(host.partition("%")[0]))
    for table in ("tcp", "tcp6"):
        for line in _read_text(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if fields[3] != _LISTEN_STATE or int(number, 16) != port:
                continue
            if _conflicts(_parse_address(address), requested):
                yield fields[9]


def _parse_address(text: str) -> _Address:
    """Parse an address of /proc/net/tcp: hexadecimal 32-bit words in the machine's byte order."""
    raw = b""
    for start in range(0, len(text), 8):
        word = int(text[start : start + 8], 16)
        raw += word.to_bytes(4, sys.byteorder)
    return _unmap(ipaddress.ip_address(raw))


def _unmap(address: _Address) -> _Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address; other addresses unchanged."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _conflicts(used: _Address, requested: _Address) -> bool:
    """Return whether a socket on `used` prevents another socket from listening on `requested`."""
    if used == requested:
        return True
    for address in (used, requested):
        # `::` also accepts IPv4 unless the socket is IPv6-only, which /proc does not show.
        takes_version = address.version == 6 or used.version == requested.version
        if address.is_unspecified and takes_version:
            return True
    return False


def _list_pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _has_open_socket(pid: int, links: set[str]) -> bool:
    # Processes of other users, and processes that are exiting, can't be read.
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in links:
                    return True
    return False


def _read_parent_pid(pid: int) -> int:
    # The program name in parentheses, before these fields, may contain any character.
    fields = _read_text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _read_owner(pid: int) -> PortOwner:
    command = _read_text(_PROC / str(pid) / "cmdline").split("\0")
    name = Path(command[0]).name
    if not name.isprintable():
        name = repr(name)
    # The first arguments of an interpreter contain the program name.
    is_anthropic_proxy = any(_PROXY_NAMES.search(Path(argument).name) for argument in command[:4])
    return PortOwner(pid, name, is_anthropic_proxy)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
