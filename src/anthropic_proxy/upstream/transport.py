"""httpx on aiohttp's connections: reading a chunk costs a third of what httpx's own transport takes, and a pool without a
limit means that no stream waits for another to end.

What httpx has no words for goes through its extensions. A request's `trace` (as httpcore names it) is told `reused` or
`connected` when it has its connection, and `sent` for each piece of it that is written. A response's `body` reads the
connection itself: a read of it may be cancelled and made again, which httpx's chain of generators does not survive.
Failures are aiohttp's own: they say more than httpx's.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

_KEEPALIVE_SECONDS = 60
# A body with images has megabytes; written in one piece it would hold up everything else meanwhile.
_CHUNK_BYTES = 256 * 1024

# Whose time is up says the caller, which knows what it is waiting for.
_NO_TIMEOUT = aiohttp.ClientTimeout()


def _with_scheme(address: str) -> str:
    """Return the address of an HTTP proxy with the scheme that curl and httpx suppose where it has none."""
    return address if "://" in address else f"http://{address}"


class EnvironmentProxies:
    """The HTTP proxies that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY).

    aiohttp's own `trust_env` would also read ~/.netrc for every request, in a thread, and then refuse the key that the
    request has already.
    """

    def __init__(self) -> None:
        self._proxies = {
            scheme: URL(_with_scheme(address))
            for scheme, address in getproxies().items()
            if scheme != "no"
        }

    def request_options(self, url: httpx.URL) -> dict[str, Any]:
        """Of aiohttp's request to `url`."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or proxy_bypass(url.host):
            return {}
        if not proxy.user:
            return {"proxy": proxy}
        auth_header = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
        return {"proxy": proxy.with_user(None), "proxy_headers": {"Authorization": auth_header}}


class AiohttpTransport(httpx.AsyncBaseTransport):
    """One pool of connections, made with the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies = EnvironmentProxies()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._session = self._session or _create_session()
        content = await request.aread()
        response = await self._session.request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=_split(content) if len(content) > _CHUNK_BYTES else content or None,
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
            trace_request_ctx=request.extensions.get("trace"),
            **self._proxies.request_options(request.url),
        )
        body = ResponseBody(response)
        return httpx.Response(
            response.status,
            headers=_headers_without_encoding(response),
            stream=body,
            extensions={"body": body},
        )

    def uses_proxy(self, url: httpx.URL) -> bool:
        """Return whether requests to `url` go through an HTTP proxy of the environment."""
        return bool(self._proxies.request_options(url))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class ResponseBody(httpx.AsyncByteStream):
    """The body of a response, decompressed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.read = response.content.readany
        """Gives the bytes that are there, waits when there are none, and gives b"" at the end. It may be cancelled and
        called again: no bytes are lost.
        """

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def aclose(self) -> None:
        """Give the connection back, or cut it when the body was not read to its end."""
        self._response.release()


def _create_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_create_trace_config()],
    )


def _create_trace_config() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(partial(_report_event, "reused"))
    config.on_connection_create_end.append(partial(_report_event, "connected"))
    config.on_request_headers_sent.append(partial(_report_event, "sent"))
    config.on_request_chunk_sent.append(partial(_report_event, "sent"))
    return config


async def _report_event(
    event: str, _: aiohttp.ClientSession, context: SimpleNamespace, __: object
) -> None:
    trace: Callable[[str], None] | None = context.trace_request_ctx
    if trace is not None:
        trace(event)


async def _split(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), _CHUNK_BYTES):
        yield content[start : start + _CHUNK_BYTES]


def _headers_without_encoding(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """The headers, without the one that would have httpx decompress the body once more."""
    return [
        (name, value) for name, value in response.raw_headers if name.lower() != b"content-encoding"
    ]
