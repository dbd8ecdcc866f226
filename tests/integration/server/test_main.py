"""Protocols of the server.

`test_drain.py` tests the shutdown, and `integration/cli` the command.
"""

import contextlib
import os
import select
import shutil
import socket
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.server import hypercorn_connection
from anthropic_proxy.server.main import loop_factory, open_listeners
from anthropic_proxy.wire.json_codec import dumps
from tests.support.raw_client import exchange
from tests.support.running_command import REQUEST, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    """Return settings with a certificate of the authority for 127.0.0.1."""
    return _write_certificate(authority, tmp_path)


def _write_certificate(authority: trustme.CA, directory: Path) -> dict[str, Any]:
    issued = authority.issue_cert("127.0.0.1")
    files = {"TLS_CERT_FILE": directory / "tls.crt", "TLS_KEY_FILE": directory / "tls.key"}
    files["TLS_CERT_FILE"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(files["TLS_KEY_FILE"]))
    return files


def _trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_the_event_loop_is_uvloop() -> None:
    factory = loop_factory()
    assert factory is not None
    loop = factory()
    assert type(loop).__module__ == "uvloop"
    loop.close()


def test_an_idle_connection_does_not_delay_shutdown(upstream: ScriptedUpstream) -> None:
    with httpx.Client(trust_env=False) as client:
        with running_proxy(upstream.url) as proxy:
            assert client.get(f"{proxy}/health").text == "OK"
        with pytest.raises(httpx.ConnectError):
            client.get(f"{proxy}/health")


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_clear_text_requests_are_served(
    upstream: ScriptedUpstream, host: str, *, http2: bool
) -> None:
    with (
        running_proxy(upstream.url, HOST=host) as proxy,
        httpx.Client(http1=not http2, http2=http2, trust_env=False) as client,
    ):
        _check_both_response_modes(upstream, client, proxy, "HTTP/2" if http2 else "HTTP/1.1")


@pytest.mark.parametrize("http2", [True, False])
def test_tls_requests_are_served(
    upstream: ScriptedUpstream, authority: trustme.CA, tls: dict[str, Any], *, http2: bool
) -> None:
    with (
        running_proxy(upstream.url, **tls) as proxy,
        httpx.Client(http2=http2, verify=_trust(authority), trust_env=False) as client,
    ):
        assert proxy.startswith("https://")
        _check_both_response_modes(upstream, client, proxy, "HTTP/2" if http2 else "HTTP/1.1")


def _check_both_response_modes(
    upstream: ScriptedUpstream, client: httpx.Client, proxy: str, version: str
) -> None:
    upstream.then(answers(completion("Hello")), streams(text_chunks("Hel", "lo")))
    complete = client.post(f"{proxy}/v1/messages", json=REQUEST, timeout=DEADLINE)
    assert (complete.http_version, complete.json()["content"]) == (
        version,
        [{"type": "text", "text": "Hello"}],
    )
    streamed = client.post(
        f"{proxy}/v1/messages", json=REQUEST | {"stream": True}, timeout=DEADLINE
    )
    assert (streamed.http_version, streamed.text.count("event: message_stop")) == (version, 1)


def test_clear_text_on_a_tls_port_is_logged_once(
    upstream: ScriptedUpstream,
    authority: trustme.CA,
    tls: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A front proxy that does not connect with HTTPS only responds with 502, so this is logged."""
    with running_proxy(upstream.url, **tls) as proxy:
        for method in ("GET", "POST", "HEAD"):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.request(method, proxy.replace("https:", "http:"), trust_env=False)
        assert httpx.get(f"{proxy}/health", verify=_trust(authority), trust_env=False).text == "OK"
    logged = "".join(capfd.readouterr())
    assert logged.count("plain HTTP request on the TLS port rejected") == 1
    assert "this port accepts only HTTPS" in logged


def test_invalid_tls_bytes_are_not_logged(
    upstream: ScriptedUpstream, tls: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with running_proxy(upstream.url, **tls) as proxy:
        for sent in (b"\x00" * 64, b"HELLO\r\n\r\n", b"GET"):
            assert exchange(proxy, sent)[:5] != b"HTTP/"
    assert "TLS port" not in "".join(capfd.readouterr())


def test_clients_must_present_a_certificate(
    upstream: ScriptedUpstream, authority: trustme.CA, tls: dict[str, Any], tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with running_proxy(upstream.url, TLS_CLIENT_CA_FILE=tmp_path / "ca.pem", **tls) as proxy:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            httpx.get(f"{proxy}/health", verify=_trust(authority), trust_env=False)
        foreign = _trust(authority)
        trustme.CA().issue_cert("somebody@example.com").configure_cert(foreign)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            httpx.get(f"{proxy}/health", verify=foreign, trust_env=False)
        trusted = _trust(authority)
        authority.issue_cert("client@example.com").configure_cert(trusted)
        assert httpx.get(f"{proxy}/health", verify=trusted, trust_env=False).text == "OK"


def test_a_renewed_certificate_is_used_without_a_restart(
    upstream: ScriptedUpstream, authority: trustme.CA, tls: dict[str, Any]
) -> None:
    with running_proxy(upstream.url, RELOAD_INTERVAL=0.01, **tls) as proxy:
        before = _fetch_certificate(proxy)
        tls["TLS_KEY_FILE"].write_text("incomplete")
        assert _fetch_certificate(proxy) == before
        _write_certificate(authority, tls["TLS_KEY_FILE"].parent)
        until(lambda: _fetch_certificate(proxy) != before, "the new certificate is used")


def _fetch_certificate(proxy: str) -> str:
    host, port = proxy.removeprefix("https://").split(":")
    return ssl.get_server_certificate((host, int(port)), timeout=DEADLINE)


def test_requests_on_a_unix_socket_are_served(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with running_proxy(upstream.url, UNIX_SOCKET=path) as proxy:
        assert proxy == f"unix:{path}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            _check_both_response_modes(upstream, client, "http://localhost", "HTTP/1.1")
    assert not path.exists()


def test_the_unix_socket_of_a_successor_is_kept(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A server that has closed its socket may still drain when the next server starts."""
    path = tmp_path / "proxy.sock"
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL=upstream.url, UNIX_SOCKET=path)
    with contextlib.ExitStack() as successor:
        with open_listeners(settings) as listeners:
            listeners.main.close()
            next_listeners = successor.enter_context(open_listeners(settings))
            successor.enter_context(next_listeners.main)
        assert path.exists()
    assert not path.exists()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize(
    ("option", "version"),
    [("--http2-prior-knowledge", "2"), ("--http2", "2"), ("--http1.1", "1.1")],
    ids=str,
)
def test_curl_requests_are_served(proxy: str, option: str, version: str) -> None:
    """With `--http2`, curl sends an upgrade header with its first request."""
    output_format = "%{http_version} %{http_code}"
    command = ["curl", "-sS", "--noproxy", "*", option, "-w", output_format, f"{proxy}/health"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert result.stdout == f"OK{version} 200"


def test_requests_above_the_concurrency_limit_are_rejected(upstream: ScriptedUpstream) -> None:
    upstream.then(streams(text_chunks("Hello")[:1], done=False))
    with (
        running_proxy(upstream.url, MAX_CONCURRENT_REQUESTS=1) as proxy,
        httpx.Client(base_url=proxy, trust_env=False, timeout=DEADLINE) as client,
        socket.create_connection(_split_address(proxy)) as slow,
    ):
        slow.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        until(lambda: _in_flight(client) == 2, "the slow request and the metrics request are open")
        rejected = client.get("/v1/nothing")
        assert rejected.status_code == 529
        assert rejected.json()["error"]["type"] == "overloaded_error"
        assert rejected.headers["retry-after"] == "1"
        assert rejected.headers["request-id"] == rejected.json()["request_id"]
        assert client.get("/readyz").status_code == 200


def _in_flight(client: httpx.Client) -> float:
    """Return the number of open requests from the metrics, which have no concurrency limit."""
    lines = client.get("/metrics").text.splitlines()
    return next(
        float(line.split()[-1])
        for line in lines
        if line.startswith("anthropic_proxy_requests_in_flight ")
    )


def _split_address(proxy: str) -> tuple[str, int]:
    host, port = proxy.removeprefix("http://").split(":")
    return host, int(port)


def test_an_incomplete_body_times_out(upstream: ScriptedUpstream) -> None:
    with (
        running_proxy(upstream.url, BODY_TIMEOUT=0.05) as proxy,
        socket.create_connection(_split_address(proxy), DEADLINE) as slow,
    ):
        slow.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_an_incomplete_request_head_times_out(upstream: ScriptedUpstream) -> None:
    with (
        running_proxy(upstream.url, HEADER_TIMEOUT=0.05) as proxy,
        socket.create_connection(_split_address(proxy), DEADLINE) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert slow.recv(65536) == b""


TOO_LARGE = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n"


def _send_oversized_request(connection: socket.socket) -> bytes:
    connection.sendall(TOO_LARGE)
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def test_a_client_may_continue_to_send_after_an_early_response(proxy: str) -> None:
    """The connection is not reset, so the client can read the response after it has sent all."""
    with socket.create_connection(_split_address(proxy), DEADLINE) as connection:
        assert _send_oversized_request(connection).startswith(b"HTTP/1.1 413 ")
        for _ in range(100):
            connection.sendall(b"x" * 65536)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_client_that_does_not_stop_sending_is_disconnected(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_connection, "_LINGER_SECONDS", 0.05)
    with socket.create_connection(_split_address(proxy), DEADLINE) as connection:
        assert _send_oversized_request(connection).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            _send_forever(connection)


def test_a_half_closed_connection_that_is_not_read_is_closed(
    upstream: ScriptedUpstream, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_connection, "_LINGER_SECONDS", 0.05)
    upstream.then(answers(completion()), answers(completion("x" * 16_000_000)))
    body = dumps(REQUEST)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(DEADLINE)
        connection.connect(_split_address(proxy))
        # The first request opens the connection to the upstream.
        connection.sendall(head.encode() + body)
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(65536)
        connection.sendall(head.encode() + body)
        assert connection.recv(9) == b"HTTP/1.1 "
        assert _count_connections(_split_address(proxy)) == 1
        connection.shutdown(socket.SHUT_WR)
        until(lambda: _count_connections(_split_address(proxy)) == 0, "the server closes its side")


def _count_connections(address: tuple[str, int]) -> int:
    """Return the number of connections of the server, which runs in this process."""
    count = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - not a folder of files
        # Other threads open and close files at the same time.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as opened:
                opened.getpeername()
                if opened.getsockname() == address:
                    count += 1
    return count


def _send_forever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 65536)


_GET = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
# On a busy machine, the server may read a request head some tenths of a second after it was sent.
_HEADER_SECONDS = 0.5


def test_the_header_timeout_applies_to_later_requests(upstream: ScriptedUpstream) -> None:
    """The idle timeout of connections does not extend it."""
    with (
        running_proxy(
            upstream.url, HEADER_TIMEOUT=_HEADER_SECONDS, KEEPALIVE_TIMEOUT=3600
        ) as proxy,
        socket.create_connection(_split_address(proxy), DEADLINE) as slow,
    ):
        for begin in (0, 1):
            slow.sendall(_GET[begin:])
            received = b""
            while not received.endswith(b"OK"):
                data = slow.recv(65536)
                assert data, "the connection was closed"
                received += data
            slow.sendall(_GET[:1])
        sent = 1
        with contextlib.suppress(ConnectionError):
            while not select.select([slow], [], [], 0.02)[0] and sent < len(_GET) - 1:
                slow.sendall(_GET[sent : sent + 1])
                sent += 1
            assert slow.recv(65536) == b""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("http2", [True, False])
def test_the_header_timeout_does_not_close_idle_connections(
    upstream: ScriptedUpstream, times: int, *, http2: bool
) -> None:
    """A second connection, which sends no request head, is closed in the meantime."""
    with (
        running_proxy(
            upstream.url, HEADER_TIMEOUT=_HEADER_SECONDS, KEEPALIVE_TIMEOUT=3600
        ) as proxy,
        httpx.Client(http1=not http2, http2=http2, trust_env=False, timeout=DEADLINE) as client,
    ):
        ports = set()
        for _ in range(times):
            response = client.get(f"{proxy}/livez")
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
            with socket.create_connection(_split_address(proxy), DEADLINE) as silent:
                assert silent.recv(1) == b""
        response = client.get(f"{proxy}/livez")
        ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1


_BIG = {"choices": [{"index": 0, "delta": {"content": "x" * 65536}}]}


@pytest.mark.parametrize("http2", [True, False])
def test_a_client_that_does_not_read_is_disconnected(
    upstream: ScriptedUpstream, *, http2: bool
) -> None:
    """The proxy stops reading from the upstream and finally closes the upstream connection."""
    sent: dict[str, Any] = REQUEST | {"stream": True}
    upstream.then(streams([_BIG] * 4000))
    with (
        running_proxy(upstream.url, WRITE_TIMEOUT=0.2) as proxy,
        httpx.Client(http1=not http2, http2=http2, trust_env=False, timeout=DEADLINE) as client,
        client.stream("POST", f"{proxy}/v1/messages", json=sent) as response,
    ):
        assert response.status_code == 200
        assert upstream.request().gone.wait(DEADLINE)
        if not http2:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                response.read()


def test_headers_above_the_limit_are_rejected(proxy: str) -> None:
    ok = httpx.get(f"{proxy}/health", headers={"anthropic-beta": "x" * 60_000}, trust_env=False)
    assert ok.status_code == 200
    assert (
        httpx.get(
            f"{proxy}/health", headers={"anthropic-beta": "x" * 300_000}, trust_env=False
        ).status_code
        == 431
    )
