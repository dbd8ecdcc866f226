"""The HTTP client's failures, provoked over real sockets where they can be, and by its own exceptions where not."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest

from anthropic_proxy import upstream as upstream_module
from anthropic_proxy.endpoints import Timeouts
from anthropic_proxy.errors import ApiError
from anthropic_proxy.upstream import Reply, Upstream
from tests.scripted_upstream import RESET, Pause, Script, ScriptedUpstream, answers, chunked

HEADERS = {"authorization": "Bearer sk-secret"}


def run(work: Callable[[Upstream], Awaitable[object]], transport: httpx.AsyncBaseTransport | None = None) -> object:
    async def main() -> object:
        upstream = Upstream(transport)
        try:
            return await work(upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(main())


def test_a_reply(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"a": 1}, 418, {"X-Thing": "y"}))

    async def work(client: Upstream) -> tuple[Reply, bytes]:
        reply = await client.post(upstream.url + "/path", b'{"q":1}', HEADERS, Timeouts())
        raw = await reply.read()
        await reply.aclose()
        await reply.aclose()
        return reply, raw

    reply, raw = run(work)  # type: ignore[misc]  # what `work` gives
    assert (reply.status, reply.headers["x-thing"], raw) == (418, "y", b'{"a": 1}')
    sent = upstream.request()
    assert (sent.path, sent.raw) == ("/path", b'{"q":1}', HEADERS, Timeouts())
    assert (sent.headers["authorization"], sent.headers["content-type"]) == ("Bearer sk-secret", "application/json")
    assert sent.headers["accept-encoding"] == "identity"


def test_cookies_are_not_kept(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({}, headers={"set-cookie": "AWSALB=abc; Path=/"}), answers({}))

    async def work(client: Upstream) -> None:
        for _ in range(2):
            reply = await client.post(upstream.url, b"{}", {}, Timeouts())
            await reply.read()
            await reply.aclose()

    run(work)
    upstream.request()
    assert "cookie" not in upstream.request().headers


def test_a_broken_body_does_not_hang(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk line that is none: the transport loses its own timeout with the connection."""
    monkeypatch.setattr(upstream_module, "_READ_SECONDS", 0.5)
    pause = Pause()
    upstream.then(Script(chunked().head, [b"2\r\nok\r\n", pause, b"zz\r\n"]))

    async def work(client: Upstream) -> None:
        reply = await client.post(upstream.url, b"{}", {}, Timeouts())
        reads = reply.reads()
        assert await anext(reads) == b"ok"
        pause.go.set()
        try:
            with pytest.raises(ApiError):
                await anext(reads)
        finally:
            await reads.aclose()
            await reply.aclose()

    run(work)


def failure(url: str, transport: httpx.AsyncBaseTransport | None = None) -> ApiError:
    async def work(client: Upstream) -> None:
        await client.post(url, b"{}", {}, Timeouts())

    with pytest.raises(ApiError) as caught:
        run(work, transport)
    return caught.value


def test_no_such_host() -> None:
    error = failure("http://no-such-host.invalid/v1")
    assert (error.status, error.message) == (
        500,
        "The upstream no-such-host.invalid has no address (its name can't be resolved)",
    )


def test_not_tls() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def work(client: Upstream) -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        async with server:
            await client.post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"{}", {}, Timeouts())

    with pytest.raises(ApiError, match="can't be reached over TLS"):
        run(work)


def test_the_connection_is_cut_before_the_head(upstream: ScriptedUpstream) -> None:
    upstream.then(Script(None, [RESET]))
    error = failure(upstream.url)
    assert (error.status, error.type) == (500, "api_error")
    assert error.message.endswith("broke the connection before the answer was complete")


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (httpx.ReadTimeout("x"), 504, "did not answer in time"),
        (httpx.ConnectError("x"), 500, "refuses connections"),
        (httpx.RemoteProtocolError("x"), 500, "broke the connection"),
        (OSError("x"), 500, "broke the connection"),
        (aiohttp.ConnectionTimeoutError("x"), 504, "did not accept a connection in time"),
        (aiohttp.SocketTimeoutError("x"), 504, "sent nothing for too long"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_the_client_library_raises(raised: Exception, status: int, text: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise raised

    error = failure("http://up:1/v1", httpx.MockTransport(handler))
    assert error.status == status
    assert error.message.startswith(f"The upstream up:1 {text}")
