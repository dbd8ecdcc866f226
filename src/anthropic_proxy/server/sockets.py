"""Sockets that the server listens on: TCP over IPv4, IPv6 or both, and Unix sockets."""

import errno
import http.client
import ipaddress
import os
import socket
import stat
from pathlib import Path

from anthropic_proxy.server import port_owner

# Connections that wait to be accepted.
BACKLOG = 1024

# The line of /readyz that says that a server is about to end.
DRAINING = "[-]draining failed"
_PROBE_SECONDS = 2
_PROBE_BYTES = 64 * 1024


class ListenError(Exception):
    """The address can't be listened on; the text says why."""


class AddressInUseError(ListenError):
    """Another socket is on the address."""


def open_tcp_listener(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket on `host` (a name or an IPv4 or IPv6 address) and `port` (0: any free one). On `::`, which
    stands for all addresses, it takes IPv4 as well. shared: beside another socket of this user that is on the address and
    allows it. Raises ListenError.
    """
    socket_address: tuple[str, int] | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        is_dualstack = (
            family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        )
        socket_address = (str(address[0]), int(address[1]))
        listener = socket.create_server(
            socket_address,
            family=family,
            backlog=BACKLOG,
            reuse_port=shared,
            dualstack_ipv6=is_dualstack,
        )
    except (OSError, UnicodeError) as error:
        text = f"can't listen on {host}:{port}: {_describe_error(error)}"
        if (
            socket_address is not None
            and isinstance(error, OSError)
            and error.errno == errno.EADDRINUSE
        ):
            raise AddressInUseError(
                f"{text}; {port_owner.describe_port_conflict(*socket_address)}"
            ) from error
        raise ListenError(text) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own form
    return listener


def open_metrics_listener(host: str, port: int) -> tuple[socket.socket, bool]:
    """A listening socket for probes and metrics, and whether it shares the port with a server that is draining.

    A server answers probes until its last request has ended, so its successor would have to wait for that; meanwhile each
    of them gets some of the connections. Raises ListenError.
    """
    is_shared = False
    try:
        listener = open_tcp_listener(host, port)
    except AddressInUseError as error:
        if not hasattr(socket, "SO_REUSEPORT") or not _is_draining(host, port):
            # The last part of the hint names the variable of the other port.
            reason = str(error).rpartition(", or ")[0]
            raise AddressInUseError(
                f"{reason}, or choose another port with METRICS_PORT"
            ) from error
        listener, is_shared = open_tcp_listener(host, port, shared=True), True
    if hasattr(socket, "SO_REUSEPORT"):
        # For the successor. Not before it listens, as it would then not notice a server that is not draining.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return listener, is_shared


def _is_draining(host: str, port: int) -> bool:
    """Return whether an anthropic-proxy answers on the port that is about to end."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return (
            DRAINING
            in connection.getresponse().read(_PROBE_BYTES).decode("utf-8", "replace").splitlines()
        )
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def open_unix_listener(path: Path) -> socket.socket:
    """A listening Unix socket at `path`, for its owner and its group. One that a server left behind is replaced; one that
    is listened on is not. Raises ListenError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale_socket(path)
        before = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"can't listen on {path}: {_describe_error(error)}") from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own form
    return listener


def format_base_url(listener: socket.socket, *, tls: bool = False) -> str:
    """The base URL for `listener`; `unix:` and the path of a Unix socket."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return (
        f"http{'s' * tls}://[{host}]:{port}" if ":" in host else f"http{'s' * tls}://{host}:{port}"
    )


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


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
        return "that is no host name"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
