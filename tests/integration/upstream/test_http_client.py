"""Failures of the HTTP client, over real sockets where possible, else by its exceptions."""

import asyncio
import math
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
import httpx
import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamHTTPClient, UpstreamResponse
from tests.support.scripted_upstream import (
    LAST_CHUNK,
    RESET,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
)

HEADERS = {"authorization": "Bearer sk-secret"}

T = TypeVar("T")


def run(
    work: Callable[[UpstreamHTTPClient], Awaitable[T]],
    transport: httpx.AsyncBaseTransport | None = None,
) -> T:
    async def main() -> T:
        upstream = UpstreamHTTPClient(transport)
        try:
            return await work(upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(main())


async def to_the_end(reply: UpstreamResponse, silence: float = 0.01) -> list[bytes]:
    """What comes, b"" for each time in which nothing does."""
    loop, reads = asyncio.get_running_loop(), []
    while (received := await reply.read_available(loop.time() + silence)) is not None:
        reads.append(received)
    return reads


def test_a_reply(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"a": 1}, 418, {"X-Thing": "y"}))

    async def work(client: UpstreamHTTPClient) -> tuple[UpstreamResponse, bytes]:
        reply = await client.post(upstream.url + "/path", b'{"q":1}', HEADERS, Timeouts(), "up:1")
        raw = await reply.read()
        await reply.aclose()
        await reply.aclose()
        return reply, raw

    reply, raw = run(work)
    assert (reply.status, reply.headers["x-thing"], raw) == (418, "y", b'{"a": 1}')
    sent = upstream.request()
    assert (sent.path, sent.raw) == ("/path", b'{"q":1}')
    assert (sent.headers["authorization"], sent.headers["content-type"]) == (
        "Bearer sk-secret",
        "application/json",
    )
    assert sent.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("max_bytes", [99, 3])
def test_the_beginning_of_a_body_is_read_again(upstream: ScriptedUpstream, max_bytes: int) -> None:
    pause = Pause()
    upstream.then(chunked(b'{"a', b'": 1}', pause, b" ", LAST_CHUNK))

    async def work(client: UpstreamHTTPClient) -> tuple[bytes, bytes]:
        reply = await client.post(upstream.url, b"{}", {}, Timeouts(), "up:1")
        beginning = await reply.peek(60, max_bytes, lambda body: body.endswith(b"}"))
        pause.go.set()
        body = await reply.read()
        await reply.aclose()
        return beginning, body

    beginning, body = run(work)
    assert body == b'{"a": 1} '
    assert b'{"a": 1}'.startswith(beginning)
    assert len(beginning) >= min(max_bytes, 8)


def test_a_broken_beginning_fails_when_it_is_read(upstream: ScriptedUpstream) -> None:
    upstream.then(chunked(b"ok", RESET))

    async def work(client: UpstreamHTTPClient) -> None:
        reply = await client.post(upstream.url, b"{}", {}, Timeouts(), "up:1")
        assert await reply.peek(60, 99, lambda _: False) in (b"ok", b"")
        with pytest.raises(UpstreamError):
            await reply.read()
        await reply.aclose()

    run(work)


def test_cookies_are_not_kept(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({}, headers={"set-cookie": "AWSALB=abc; Path=/"}), answers({}))

    async def work(client: UpstreamHTTPClient) -> None:
        for _ in range(2):
            reply = await client.post(upstream.url, b"{}", {}, Timeouts(), "up:1")
            await reply.read()
            await reply.aclose()

    run(work)
    upstream.request()
    assert "cookie" not in upstream.request().headers


def test_a_broken_body_does_not_hang(upstream: ScriptedUpstream) -> None:
    """An invalid chunk line: the library closes the connection without an exception."""
    pause = Pause()
    upstream.then(Script(chunked().head, [b"2\r\nok\r\n", pause, b"zz\r\n"]))

    async def work(client: UpstreamHTTPClient) -> None:
        reply = await client.post(upstream.url, b"{}", {}, Timeouts(), "up:1")
        assert await reply.read_available(math.inf) == b"ok"
        pause.go.set()
        try:
            with pytest.raises(UpstreamError, match="closed the connection") as caught:
                await to_the_end(reply)
            assert caught.value.phase == "body"
        finally:
            await reply.aclose()

    run(work)


def failure(url: str, transport: httpx.AsyncBaseTransport | None = None) -> ApiError:
    async def work(client: UpstreamHTTPClient) -> None:
        await client.post(url, b"{}", {}, Timeouts(), "up:1")

    with pytest.raises(ApiError) as caught:
        run(work, transport)
    return caught.value


def test_no_such_host() -> None:
    error = failure("http://no-such-host.invalid/v1")
    assert (error.status, error.message) == (
        500,
        "The upstream up:1 has no address (its name can't be resolved)",
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "can't be reached over TLS: its port does not use TLS",
        ),
        (b"<html>", "can't be reached over TLS: its port does not use TLS"),
        (b"", "closed the connection before TLS began: if its port does not use TLS"),
    ],
)
def test_not_tls(reply: bytes, reason: str) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        writer.close()

    async def work(client: UpstreamHTTPClient) -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        async with server:
            await client.post(
                f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/",
                b"{}",
                {},
                Timeouts(),
                "up:1",
            )

    with pytest.raises(ApiError) as raised:
        run(work)
    assert raised.value.message.startswith(f"The upstream up:1 {reason}")
    assert raised.value.message.endswith("the URL must begin with http://")


def test_the_connection_is_reset_before_the_head() -> None:
    """As servers for TLS do that close a connection with bytes that they have not read."""

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async def work(client: UpstreamHTTPClient) -> None:
        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await client.post(f"http://127.0.0.1:{port}/", b"{}", {}, Timeouts(), "up:1")

    with pytest.raises(ApiError, match="if its port uses TLS, the URL must begin with http"):
        run(work)


def test_the_connection_is_cut_before_the_head(upstream: ScriptedUpstream) -> None:
    upstream.then(Script(None, [RESET]))
    error = failure(upstream.url)
    assert (error.status, error.type) == (500, "api_error")
    assert (
        "closed the connection before the response was complete; "
        "if its port uses TLS, the URL must begin with https" in error.message
    )


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (httpx.ReadTimeout("x"), 504, "did not respond in time"),
        (httpx.ConnectError("x"), 500, "refuses connections"),
        (httpx.RemoteProtocolError("x"), 500, "closed the connection"),
        (OSError("x"), 500, "closed the connection"),
        (httpx.ConnectTimeout("x"), 504, "did not accept a connection in time"),
        (
            # The request is not read.
            aiohttp.ClientHttpProxyError(None, (), status=407),  # type: ignore[arg-type]
            500,
            "can't be reached: the HTTP proxy",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_the_client_library_raises(raised: Exception, status: int, text: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise raised

    error = failure("http://up:1/v1", httpx.MockTransport(handler))
    assert error.status == status
    assert error.message.startswith(f"The upstream up:1 {text}")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        ("http://127.0.0.1:9", "refuses connections; NO_PROXY can exempt it"),
        (
            "http://no-such-host.invalid:1",
            "has no address (its name can't be resolved): this is the HTTP proxy",
        ),
    ],
)
def test_the_http_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, scheme: str, proxy: str, text: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = failure(f"{scheme}://192.0.2.1/v1")
    assert text in error.message
    assert "the HTTP proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY" in error.message


def test_an_http_proxy_that_breaks_off(
    monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream
) -> None:
    upstream.then(Script(None, [RESET]))
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert (
        "before the response was complete (through the HTTP proxy"
        in failure("http://192.0.2.1/v1").message
    )


@pytest.mark.parametrize("stream", [True, False])
def test_a_web_page_of_a_good_status(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    upstream.then(answers(b"<html>Welcome</html>", headers={"content-type": "text/html"}))
    body = {
        "model": "m",
        "max_tokens": 1,
        "stream": stream,
        "messages": [{"role": "user", "content": "a"}],
    }
    answer = httpx.post(f"{proxy}/v1/messages", json=body, trust_env=False)
    assert (
        answer.status_code,
        "returned an HTML page: it is not an OpenAI-compatible API" in answer.text,
    ) == (500, True)


def test_a_right_answer_of_a_wrong_type(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("Hi"), headers={"content-type": "text/html"}))
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    assert (
        httpx.post(f"{proxy}/v1/messages", json=body, trust_env=False).json()["content"][0]["text"]
        == "Hi"
    )
