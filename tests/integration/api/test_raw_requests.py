"""Ambiguous and invalid HTTP over raw sockets, as in request smuggling attacks.

A second request (`/smuggled`) follows each case.
If a front proxy saw a different end of the first request, the second one would pass unchecked.
Sources: RFC 9112 (2.2, 5, 6, 7, 11.2), RFC 9113 (8.2, 8.3).
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import pytest

from tests.support.raw_client import exchange
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

_BODY = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}'
_POST = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(_BODY), _BODY)
_END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def proxy_and_upstream() -> Iterator[tuple[str, ScriptedUpstream]]:
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, PROXY_API_KEYS="alice=k") as proxy,
    ):
        yield proxy, upstream


@pytest.fixture
def proxy(proxy_and_upstream: tuple[str, ScriptedUpstream]) -> str:
    return proxy_and_upstream[0]


def _statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"

AMBIGUOUS = {
    "two lengths": _POST + b"content-length: 5\r\ncontent-length: 72\r\n\r\n" + _BODY,
    "a list of lengths": _POST + b"content-length: 5, 72\r\n\r\n" + _BODY,
    "a negative length": _POST + b"content-length: -1\r\n\r\n" + _BODY,
    "a length with a sign": _POST + b"content-length: +72\r\n\r\n" + _BODY,
    "a length in hexadecimal": _POST + b"content-length: 0x48\r\n\r\n" + _BODY,
    "a length with digits of another script": _POST
    + "content-length: \u0667\u0662\r\n\r\n".encode()
    + _BODY,
    "a huge length": _POST + b"content-length: 99999999999999999999999999\r\n\r\n" + _BODY,
    "a length and chunks": _POST
    + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
    + _CHUNK
    + _END,
    "chunks and a length": _POST
    + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n"
    + _CHUNK
    + _END,
    "an unknown transfer": _POST + b"transfer-encoding: xchunked\r\n\r\n" + _CHUNK + _END,
    "chunks twice": _POST + b"transfer-encoding: chunked, chunked\r\n\r\n" + _CHUNK + _END,
    "chunks not last": _POST + b"transfer-encoding: chunked, identity\r\n\r\n" + _CHUNK + _END,
    "two transfers": _POST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n"
    + _CHUNK
    + _END,
    "a space before the colon": _POST + b"transfer-encoding : chunked\r\n\r\n" + _CHUNK + _END,
    "a name with a line feed": _POST + b"x: a\nb\r\ncontent-length: 72\r\n\r\n" + _BODY,
    "a bare carriage return": _POST
    + b"x: a\rtransfer-encoding: chunked\r\ncontent-length: 72\r\n\r\n"
    + _BODY,
    "a null": _POST + b"x: a\0b\r\ncontent-length: 72\r\n\r\n" + _BODY,
    "an invalid name": _POST + b"x y: a\r\ncontent-length: 72\r\n\r\n" + _BODY,
    "no name": _POST + b": a\r\ncontent-length: 72\r\n\r\n" + _BODY,
    "an invalid size": _POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n" + _BODY + b"\r\n" + _END,
    "a size with a sign": _POST
    + b"transfer-encoding: chunked\r\n\r\n+48\r\n"
    + _BODY
    + b"\r\n"
    + _END,
    "a size in hexadecimal": _POST
    + b"transfer-encoding: chunked\r\n\r\n0x48\r\n"
    + _BODY
    + b"\r\n"
    + _END,
    "a huge size": _POST
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"f" * 40
    + b"\r\n"
    + _BODY
    + b"\r\n"
    + _END,
    "more than the size": _POST
    + b"transfer-encoding: chunked\r\n\r\n5\r\n"
    + _BODY
    + b"\r\n"
    + _END,
    "two hosts": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\nx-api-key: k\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\nx-api-key: k\r\n\r\n",
    "a target with a space": b"GET /v1/models x HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n\r\n",
    "an invalid method": b"GE(T /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n\r\n",
    "an invalid version": b"GET /v1/models HTTP/1.x\r\nhost: a\r\nx-api-key: k\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "endless headers": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_requests_are_rejected(proxy: str, case: str) -> None:
    received = exchange(proxy, AMBIGUOUS[case] + _SMUGGLED)
    statuses = _statuses(received)
    assert len(statuses) <= 1, received
    # 501: unknown transfer encoding (RFC 9112, 6.1).
    assert all(400 <= status < 500 or status == 501 for status in statuses), received


VALID = {
    "a folded header": (
        _POST + b"x: a\r\n b\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY,
        b'"type":"message"',
    ),
    "chunks": (_POST + b"transfer-encoding: chunked\r\n\r\n" + _CHUNK + _END, b'"type":"message"'),
    "an extension of a chunk": (
        _POST
        + b"transfer-encoding: chunked\r\n\r\n"
        + _CHUNK.replace(b"\r\n", b";a=b\r\n", 1)
        + _END,
        b'"type":"message"',
    ),
    "a trailer": (
        _POST + b"transfer-encoding: chunked\r\n\r\n" + _CHUNK + b"0\r\nx-api-key: other\r\n\r\n",
        b'"type":"message"',
    ),
}


@pytest.mark.parametrize("case", VALID)
def test_valid_requests_are_read_once(
    proxy_and_upstream: tuple[str, ScriptedUpstream], case: str
) -> None:
    """The next request on the connection is a separate request, which needs a key."""
    proxy, upstream = proxy_and_upstream
    upstream.then(answers(completion()))
    sent, expected = VALID[case]
    received = exchange(proxy, sent + _SMUGGLED)
    assert _statuses(received) == [200, 401], received
    assert expected in received


REJECTED = {
    "HTTP/2.0 in a request line": (_POST.replace(b"HTTP/1.1", b"HTTP/2.0") + b"\r\n", 505),
    "an unknown minor version": (b"GET /health HTTP/1.9\r\nhost: a\r\n\r\n", 505),
    "an old version": (b"GET /health HTTP/0.9\r\nhost: a\r\n\r\n", 505),
    "a future version, without a body": (b"HEAD /health HTTP/3.0\r\nhost: a\r\n\r\n", 505),
    "a partial IPv6 address": (b"POST http://[::1/v1/messages HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a partial IPv6 address in an upgrade": (
        (
            b"GET http://[::1/ HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n"
            b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        ),
        400,
    ),
    "a partial address of another scheme": (b"GET mailto://[x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "an invalid request": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    "endless headers": (AMBIGUOUS["endless headers"], 431),
    "an unknown transfer": (AMBIGUOUS["an unknown transfer"], 501),
}


@pytest.mark.parametrize("case", REJECTED)
def test_requests_that_the_server_rejects_get_an_api_error(proxy: str, case: str) -> None:
    """The server rejects the request before the application and closes the connection."""
    sent, status = REJECTED[case]
    head, _, body = exchange(proxy, sent + _SMUGGLED).partition(b"\r\n\r\n")
    assert _statuses(head) == [status]
    assert b"connection: close" in head.lower()
    request_id = re.search(rb"request-id: (req_\w+)", head)
    assert request_id is not None
    if not sent.startswith(b"HEAD"):
        error = json.loads(body)
        assert error["type"] == "error"
        assert error["request_id"] == request_id[1].decode()


SERVED = {
    "a websocket": b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    "an unknown protocol": b"GET / HTTP/1.1\r\nhost: a\r\n"
    b"connection: upgrade\r\nupgrade: tls/1.3\r\n\r\n",
    "HTTP/2 with invalid settings": b"GET / HTTP/1.1\r\nhost: a\r\n"
    b"connection: upgrade\r\nupgrade: h2c\r\n"
    b"http2-settings: AAAA\r\n\r\n",
    "HTTP/2 with malformed settings": b"GET / HTTP/1.1\r\nhost: a\r\n"
    b"connection: upgrade\r\nupgrade: h2c\r\n"
    b"http2-settings: A\r\n\r\n",
    "a complete URL": b"GET http://a/?x=1 HTTP/1.1\r\nhost: a\r\n\r\n",
    "a URL without a path": b"GET http://a HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("case", SERVED)
def test_upgrades_are_ignored_and_complete_urls_are_accepted(proxy: str, case: str) -> None:
    assert _statuses(exchange(proxy, SERVED[case])) == [200]


@pytest.mark.parametrize("key", [b"", b"\xa0", b"\x85 \xa0", b"\x1c"])
def test_keys_of_white_space_are_rejected(proxy: str, key: bytes) -> None:
    """This includes characters that are white space only in Latin-1."""
    sent = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: " + key + b"\r\n\r\n"
    assert _statuses(exchange(proxy, sent)) == [401]


@pytest.mark.parametrize(
    "target", [b"*", b"a:443", b"nothing", b"//[::1/x", b"//a]b/%zz%ff", b"/%00"]
)
def test_targets_that_are_not_a_path_need_a_key(proxy: str, target: bytes) -> None:
    """The target formats do not bypass the authentication."""
    assert _statuses(exchange(proxy, b"GET " + target + b" HTTP/1.1\r\nhost: a\r\n\r\n")) == [401]


def test_a_connection_closes_when_its_client_closes_it(proxy: str) -> None:
    """The server does not wait for the idle timeout."""
    assert _statuses(exchange(proxy, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")) == [200]
    assert exchange(proxy, b"") == b""


def test_a_body_is_not_read_as_a_request(proxy: str) -> None:
    """The body contains three complete requests."""
    body = _SMUGGLED * 3
    received = exchange(
        proxy, _POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    assert _statuses(received) == [400]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_compressed_bodies_are_rejected_without_decompression(proxy: str, encoding: str) -> None:
    """A compression bomb has no effect."""
    head = _POST + b"connection: close\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (
        encoding.encode(),
        len(_BODY),
    )
    received = exchange(proxy, head + _BODY)
    assert _statuses(received) == [400]
    assert b"is not supported" in received


@pytest.mark.parametrize(
    "value",
    [
        b"a\r\nx-injected: 1",
        b"a\nx-injected: 1",
        b"a\rx-injected: 1",
        b"a%0d%0ax-injected: 1",
        b"\xff\xfe",
        b"x" * 129,
    ],
)
def test_echoed_request_ids_can_not_inject_headers(proxy: str, value: bytes) -> None:
    received = exchange(
        proxy,
        b"GET /none HTTP/1.1\r\nhost: a\r\nx-request-id: "
        + value
        + b"\r\nconnection: close\r\n\r\n",
    )
    head = received.partition(b"\r\n\r\n")[0]
    assert not re.search(rb"(?mi)^x-injected", head)
    assert re.search(rb"(?mi)^request-id: (req_\w+|a)\r?$", head) or b"HTTP/1.1 400" in head


@pytest.mark.parametrize(
    "model", ["m\r\nx-injected: 1", "m\nx-injected: 1", "m\x00", "\N{SNOWMAN}" * 50]
)
def test_model_names_can_not_inject_headers(
    proxy_and_upstream: tuple[str, ScriptedUpstream], model: str
) -> None:
    proxy, upstream = proxy_and_upstream
    upstream.then(answers(completion()))
    request = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    response = httpx.post(
        f"{proxy}/v1/messages",
        json=request,
        headers={"x-api-key": "k"},
        trust_env=False,
        timeout=DEADLINE,
    )
    assert response.status_code in (200, 400)
    assert "x-injected" not in response.headers
    assert response.status_code == 400 or response.json()["model"] == model


_PSEUDO = [(":method", "GET"), (":path", "/v1/models"), (":scheme", "http"), (":authority", "a")]
FORBIDDEN = {
    "connection": [*_PSEUDO, ("connection", "close")],
    "transfer-encoding": [*_PSEUDO, ("transfer-encoding", "chunked")],
    "a capital letter": [*_PSEUDO, ("X-Api-Key", "k")],
    "a pseudo header after others": [_PSEUDO[0], ("x", "y"), *_PSEUDO[1:]],
    "a pseudo header twice": [*_PSEUDO, (":path", "/smuggled")],
    "an unknown pseudo header": [*_PSEUDO, (":smuggled", "1")],
    "no path": [_PSEUDO[0], *_PSEUDO[2:]],
    "an invalid length": [(":method", "POST"), *_PSEUDO[1:], ("content-length", "1, 2")],
    "a line break in a value": [*_PSEUDO, ("x", "a\r\nx-api-key: k")],
    "a line break in the path": [
        _PSEUDO[0],
        (":path", "/v1/models HTTP/1.1\r\nx: y"),
        *_PSEUDO[2:],
    ],
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_forbidden_http2_headers_are_rejected(proxy: str, case: str) -> None:
    """The server closes the stream or connection, or responds with an error."""
    config = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    client.send_headers(1, [*FORBIDDEN[case]], end_stream=True)
    url = httpx.URL(proxy)
    statuses: list[int] = []
    with socket.create_connection((url.host, url.port), timeout=DEADLINE) as connection:
        connection.sendall(client.data_to_send())
        has_ended = False
        while not has_ended and (data := connection.recv(65536)):
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses += [int(value) for name, value in event.headers if name == b":status"]
                has_ended = has_ended or isinstance(
                    event,
                    h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated,
                )
            # The server may have closed the connection already.
            with contextlib.suppress(ConnectionError):
                connection.sendall(client.data_to_send())
    assert all(400 <= status < 500 for status in statuses), statuses
