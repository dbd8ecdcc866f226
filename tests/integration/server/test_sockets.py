"""Listening sockets."""

import os
import socket
from pathlib import Path

import pytest

from anthropic_proxy.server.sockets import (
    ListenError,
    format_base_url,
    is_loopback,
    open_metrics_listener,
    open_tcp_listener,
    open_unix_listener,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", None), ("::1", "[::1]"), ("::", "[::]")],
)
def test_the_address_of_a_listener_is_formatted(host: str, expected: str | None) -> None:
    with open_tcp_listener(host, 0) as listener:
        address = format_base_url(listener)
    assert address.startswith(f"http://{expected}:" if expected else "http://")


def test_all_addresses_include_ipv4() -> None:
    with open_tcp_listener("::", 0) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])).close()


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("::", False)])
def test_loopback_addresses_are_detected(host: str, *, expected: bool) -> None:
    with open_tcp_listener(host, 0) as listener:
        assert is_loopback(listener) is expected


def test_a_metrics_port_in_use_is_reported() -> None:
    with open_tcp_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError, match=r", or choose another port with METRICS_PORT$"):
            open_metrics_listener("127.0.0.1", port)


def test_a_port_in_use_is_reported_with_its_process() -> None:
    with open_tcp_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ListenError,
            match=rf"^can't listen on 127\.0\.0\.1:{port}: Address already in use; "
            rf"PID {os.getpid()} ",
        ):
            open_tcp_listener("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "é" * 80, "a..b"])
def test_an_invalid_host_is_reported(host: str) -> None:
    with pytest.raises(ListenError, match=r"^can't listen on .*:0: \S.*"):
        open_tcp_listener(host, 0)


def test_a_unix_socket_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with open_unix_listener(path) as listener:
        assert is_loopback(listener)
        assert format_base_url(listener) == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(ListenError, match=rf"^can't listen on {path}: Address already in use$"):
            open_unix_listener(path)
    # The path is free again after the listener is closed.
    open_unix_listener(path).close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file", "File exists"),
        ("missing/proxy.sock", "No such file or directory"),
        ("x" * 200, "AF_UNIX path too long"),
    ],
    ids=["file", "no-directory", "long"],
)
def test_an_invalid_unix_socket_path_is_reported(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match=rf"^can't listen on .*: {reason}$"):
        open_unix_listener(tmp_path / path)
    assert (tmp_path / "file").read_text() == "precious"
