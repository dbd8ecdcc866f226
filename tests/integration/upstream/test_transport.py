"""httpx over our transport, used as httpx is anywhere."""

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from anthropic_proxy.upstream import transport
from anthropic_proxy.upstream.transport import AiohttpTransport, EnvironmentProxies
from tests.support.scripted_upstream import ScriptedUpstream, answers


def run(work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(transport=AiohttpTransport()) as client:
            return await work(client)

    return asyncio.run(main())


def test_a_large_body_arrives_whole(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"a": 1}))
    body = bytes(range(256)) * 5000

    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(upstream.url, content=body)

    assert run(work).json() == {"a": 1}
    received = upstream.request()
    assert received.raw == body
    assert "transfer-encoding" not in received.headers


def test_a_compressed_answer_is_decompressed_once(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"}))

    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(upstream.url)

    response = run(work)
    assert response.json() == {"a": 1}
    assert "content-encoding" not in response.headers


def test_the_trace_is_told_of_the_way(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({}))
    events: list[str] = []

    async def work(client: httpx.AsyncClient) -> None:
        await client.post(upstream.url, content=b"{}", extensions={"trace": events.append})

    run(work)
    assert events == ["connected", "sent", "sent"]


def test_redirects_are_answers(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({}, 302, {"location": "http://127.0.0.1:1/"}))

    async def work(client: httpx.AsyncClient) -> int:
        return (await client.get(upstream.url)).status_code

    assert run(work) == 302


def test_the_environments_proxy_is_used(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", upstream.url.replace("//", "//user:pass@"))
    monkeypatch.setenv("no_proxy", "localhost,.here.example")
    upstream.then(answers({}))

    async def work(client: httpx.AsyncClient) -> None:
        await client.get("http://there.example/path")

    run(work)
    received = upstream.request()
    assert received.path == "http://there.example/path"
    assert received.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    proxies = EnvironmentProxies()
    assert (
        proxies.request_options(httpx.URL("http://a.here.example/"))
        == proxies.request_options(httpx.URL("http://localhost:1/"))
        == {}
    )
    assert proxies.request_options(httpx.URL("https://there.example/")) == {}


def test_a_netrc_changes_nothing(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    upstream.then(answers({}))

    async def work(client: httpx.AsyncClient) -> None:
        await client.get(upstream.url, headers={"authorization": "Bearer key"})

    run(work)
    assert upstream.request().headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("given", "proxy"),
    [
        ("foo", "http://foo"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://proxy.example:3128", "http://proxy.example:3128"),
    ],
)
def test_a_proxy_without_a_scheme(monkeypatch: pytest.MonkeyPatch, given: str, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", given)
    monkeypatch.delenv("NO_PROXY", raising=False)
    options = EnvironmentProxies().request_options(httpx.URL("http://up.example/v1"))
    assert str(options["proxy"]).removesuffix("/") == proxy


async def _serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to each request of a connection, until the client closes it."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    writer.close()


@pytest.mark.parametrize(
    ("times", "concurrency", "events"),
    [
        # One connection, as long as it is young.
        ([0, 100, 200, 300], 1, ["connected", "reused", "reused", "reused"]),
        # The response to the request at 301 ends the connection.
        ([0, 200, 301, 301, 400], 1, ["connected", "reused", "reused", "connected", "reused"]),
        ([0, 1000, 1000], 1, ["connected", "reused", "connected"]),
        ([0, 301, 301], 2, ["connected"] * 2 + ["reused"] * 2 + ["connected"] * 2),
    ],
)
def test_a_busy_connection_is_replaced_after_five_minutes(
    monkeypatch: pytest.MonkeyPatch, times: list[int], concurrency: int, events: list[str]
) -> None:
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(transport, "monotonic", lambda: clock.now)
    reported: list[str] = []

    async def work(client: httpx.AsyncClient) -> None:
        server = await asyncio.start_server(_serve_connection, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for time in times:
            clock.now = time
            await asyncio.gather(
                *[
                    client.get(url, extensions={"trace": reported.append})
                    for _ in range(concurrency)
                ]
            )
        await client.aclose()
        server.close()
        await server.wait_closed()

    run(work)
    assert [event for event in reported if event != "sent"] == events
