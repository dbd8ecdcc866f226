"""An httpx transport that uses the connections of aiohttp.

It reads a chunk in a third of the time of httpx's own transport. The number of connections is not
limited, so that no stream waits for another stream to end.

The transport uses two httpx extensions:

- `trace` of a request (named as in httpcore) is called with `reused` or `connected` when the
  request has a connection, and with `sent` for each piece that is written.
- `body` of a response reads the connection directly. Such a read can be cancelled and repeated,
  but a read through httpx's chain of generators cannot.

Errors are those of aiohttp, because they are more specific than those of httpx.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

_KEEPALIVE_SECONDS = 60
# A connection that is never idle would stay at its address after a change in the DNS. The limit is
# checked when a request takes a connection. aiohttp has no setting for it.
_MAX_AGE_SECONDS = 300
_CLOSE_SECONDS = 1
# A body with images may be several megabytes. Writing it in one piece would block the event loop.
_CHUNK_BYTES = 256 * 1024

# The caller enforces the time limits, which depend on the phase of the request.
_NO_TIMEOUT = aiohttp.ClientTimeout()


def _with_scheme(address: str) -> str:
    """Return the address of an HTTP proxy with its scheme. The default is `http`, as in curl."""
    if "://" in address:
        return address
    return f"http://{address}"


class EnvironmentProxies:
    """The HTTP proxies of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY).

    The option `trust_env` of aiohttp is not used, because it also reads ~/.netrc for every request,
    in a thread, and then rejects a request that already has a key.
    """

    def __init__(self) -> None:
        self._proxies: dict[str, URL] = {}
        for scheme, address in getproxies().items():
            if scheme != "no":
                self._proxies[scheme] = URL(_with_scheme(address))

    def request_options(self, url: httpx.URL) -> dict[str, Any]:
        """Return the proxy options of aiohttp for a request to `url`; empty without a proxy."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or proxy_bypass(url.host):
            return {}
        if not proxy.user:
            return {"proxy": proxy}
        auth_header = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
        return {"proxy": proxy.with_user(None), "proxy_headers": {"Authorization": auth_header}}


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport with one pool of connections, which the first request creates."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies = EnvironmentProxies()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._session = self._session or _create_session()
        content = await request.aread()
        data: bytes | AsyncGenerator[bytes, None] | None = content or None
        if len(content) > _CHUNK_BYTES:
            data = _split(content)
        response = await self._session.request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=data,
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
        """Return whether requests to `url` use an HTTP proxy of the environment."""
        return bool(self._proxies.request_options(url))

    async def aclose(self) -> None:
        """Close all connections. Wait at most _CLOSE_SECONDS.

        A connection with unsent bytes closes only when the server has read them.
        """
        if self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._session.close()


class ResponseBody(httpx.AsyncByteStream):
    """The body of a response, decompressed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        # Waits for bytes, and returns those that have arrived; b"" at the end. It may be cancelled
        # and called again without losing bytes.
        self.read = response.content.readany

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def aclose(self) -> None:
        """Release the connection, or close it if the body was not read to its end."""
        self._response.release()


class _AgingConnector(aiohttp.TCPConnector):
    """Closes a connection of the maximum age after the response that it is used for."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
        # The times at which the connections were opened.
        self._opened: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as in the base class
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol is not None:
            now = monotonic()
            if now - self._opened.setdefault(protocol, now) > _MAX_AGE_SECONDS:
                protocol.force_close()
        return connection


def _create_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_AgingConnector(),
        # A cookie jar would share cookies between all clients, and bind them to one backend.
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
    """Return the headers without `content-encoding`, because the body is already decompressed."""
    headers = response.raw_headers
    return [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
