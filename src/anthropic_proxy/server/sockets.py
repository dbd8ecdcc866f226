"""Listening sockets: TCP over IPv4, IPv6 or both, and Unix sockets."""

import errno
import http.client
import ipaddress
import os
import socket
import stat
from pathlib import Path

from anthropic_proxy.server import port_owner

# Maximum number of connections that wait to be accepted.
BACKLOG = 1024

# Line in the report of /readyz of a draining server.
DRAINING = "[-]draining failed"
_PROBE_SECONDS = 2
_PROBE_BYTES = 64 * 1024


class ListenError(Exception):
    """The server can't listen on the address. The text contains the reason."""


class AddressInUseError(ListenError):
    """Another socket uses the address."""


def open_tcp_listener(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a listening TCP socket. Raises ListenError.

    host: a name or an IPv4 or IPv6 address; `::` also accepts IPv4. port: 0 selects a free port.
    shared: allow an address that another socket of this user uses and shares (SO_REUSEPORT).
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(_describe_listen_error(host, port, error)) from error
    address_host, address_port = str(address[0]), int(address[1])
    is_any_ipv6 = family == socket.AF_INET6 and address_host == "::"
    try:
        listener = socket.create_server(
            (address_host, address_port),
            family=family,
            backlog=BACKLOG,
            reuse_port=shared,
            dualstack_ipv6=is_any_ipv6 and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        text = _describe_listen_error(host, port, error)
        if error.errno == errno.EADDRINUSE:
            hint = port_owner.describe_port_conflict(address_host, address_port)
            raise AddressInUseError(f"{text}; {hint}") from error
        raise ListenError(text) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own form
    return listener


def _describe_listen_error(host: str, port: int, error: OSError | UnicodeError) -> str:
    return f"can't listen on {host}:{port}: {_describe_error(error)}"


def open_metrics_listener(host: str, port: int) -> tuple[socket.socket, bool]:
    """Return a listening socket for probes and metrics, and whether its port is shared.

    A draining server serves probes until its last request has ended. Its successor starts earlier
    and shares the port with it. In the meantime each server receives some of the connections.
    Raises ListenError.
    """
    is_shared = False
    try:
        listener = open_tcp_listener(host, port)
    except AddressInUseError as error:
        if not hasattr(socket, "SO_REUSEPORT") or not _is_draining(host, port):
            # The last part of the hint is about PORT, not METRICS_PORT.
            reason = str(error).rpartition(", or ")[0]
            hint = "choose another port with METRICS_PORT"
            raise AddressInUseError(f"{reason}, or {hint}") from error
        listener = open_tcp_listener(host, port, shared=True)
        is_shared = True
    if hasattr(socket, "SO_REUSEPORT"):
        # For the successor. Set after `listen`, which would otherwise also succeed on the port of a
        # server that is not draining.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return listener, is_shared


def _is_draining(host: str, port: int) -> bool:
    """Return whether a draining anthropic-proxy serves the port."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        body = connection.getresponse().read(_PROBE_BYTES)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return DRAINING in body.decode("utf-8", "replace").splitlines()


def open_unix_listener(path: Path) -> socket.socket:
    """Return a listening Unix socket at `path`, accessible to its owner and group.

    A stale socket, on which no process listens, is replaced. Raises ListenError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale_socket(path)
        previous_umask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous_umask)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"can't listen on {path}: {_describe_error(error)}") from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own form
    return listener


def format_base_url(listener: socket.socket, *, tls: bool = False) -> str:
    """Return the base URL of `listener`; for a Unix socket, `unix:` and its path."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can connect to `listener`."""
    if listener.family == socket.AF_UNIX:
        return True
    host, _, _zone = listener.getsockname()[0].partition("%")
    return ipaddress.ip_address(host).is_loopback


def _remove_stale_socket(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _describe_error(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "invalid host name"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
