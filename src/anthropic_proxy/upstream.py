"""The one door to upstreams: bytes out, status, headers and bytes back.

httpx with the aiohttp transport: reading a chunk costs a third of what httpx's own transport takes, and a pool without a
limit means that no stream waits for another to end.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from anthropic_proxy.errors import ApiError

# Seconds. Reading waits for the next bytes: a local model may take minutes to read a long prompt.
_READ_SECONDS = 600
_TIMEOUT = httpx.Timeout(connect=10, read=_READ_SECONDS, write=60, pool=None)
_KEEPALIVE_SECONDS = 60
# A body with images has megabytes; written in one piece it would hold up everything else meanwhile.
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Reply:
    """An answer whose head has come: `status`, `headers` (lower-case names), and the body still to be read."""

    status: int
    headers: Mapping[str, str]
    _response: httpx.Response
    _host: str

    async def read(self) -> bytes:
        """The whole body. Raises ApiError."""
        return b"".join([received async for received in self.reads()])

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, one item for each read of the socket. Raises ApiError."""
        chunks = self._response.aiter_bytes()
        while True:
            with _told(self._host):
                # The transport's own timeout ends with its connection, which some broken bodies outlive.
                async with asyncio.timeout(_READ_SECONDS):
                    received = await anext(chunks, None)
            if received is None:
                return
            yield received

    async def aclose(self) -> None:
        """Give the connection back, or cut it when the body was not read to its end. May be called again."""
        await self._response.aclose()


class Upstream:
    """A pool of connections. `transport` replaces the network in tests."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(
            transport=transport or _aiohttp_transport(),
            timeout=_TIMEOUT,
            headers={"user-agent": "anthropic-proxy", "accept-encoding": "identity"},
            # Requests of different clients share nothing.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Reply:
        """Post JSON; return when the head of the answer is there. The caller closes the reply. Raises ApiError."""
        content = payload if len(payload) <= _PIECE_BYTES else _pieces(payload)
        known = {"content-length": str(len(payload)), "content-type": "application/json"}
        return await self._send(self._client.build_request("POST", url, content=content, headers={**known, **headers}))

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """As `post`, without a body."""
        return await self._send(self._client.build_request("GET", url, headers=headers))

    async def _send(self, request: httpx.Request) -> Reply:
        host = request.url.netloc.decode()
        with _told(host):
            response = await self._client.send(request, stream=True)
        return Reply(response.status_code, response.headers, response, host)

    async def aclose(self) -> None:
        await self._client.aclose()


async def _pieces(payload: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(payload), _PIECE_BYTES):
        yield payload[start : start + _PIECE_BYTES]


def _aiohttp_transport() -> AiohttpTransport:
    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
        return aiohttp.ClientSession(connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(client=session)


# First match wins. aiohttp's own classes come first: the transport turns a refused connection into httpx.ConnectTimeout
# (httpx-aiohttp 0.2.0, the order of its table), and only the cause tells the truth.
_FAILURES: tuple[tuple[type[BaseException], int, str], ...] = (
    (aiohttp.ConnectionTimeoutError, 504, "did not accept a connection in time"),
    (aiohttp.ServerTimeoutError, 504, "sent nothing for too long"),
    (aiohttp.ClientConnectorDNSError, 500, "has no address (its name can't be resolved)"),
    (aiohttp.ClientConnectorCertificateError, 500, "has a TLS certificate that can't be trusted"),
    (aiohttp.ClientConnectorSSLError, 500, "can't be reached over TLS"),
    (aiohttp.ClientConnectorError, 500, "refuses connections or can't be reached: is it running?"),
    (aiohttp.ClientError, 500, "broke the connection before the answer was complete"),
    (httpx.TimeoutException, 504, "did not answer in time"),
    (httpx.ConnectError, 500, "refuses connections or can't be reached: is it running?"),
    (httpx.HTTPError, 500, "broke the connection before the answer was complete"),
    (TimeoutError, 504, "sent nothing for too long"),
    (OSError, 500, "broke the connection before the answer was complete"),
)


@contextlib.contextmanager
def _told(host: str) -> Iterator[None]:
    """Turns what the client library raises into an ApiError that names the upstream's host."""
    try:
        yield
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        raise _to_api_error(error, host) from error


def _to_api_error(error: BaseException, host: str) -> ApiError:
    cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    for kind, status, text in _FAILURES:
        if isinstance(cause, kind):
            return ApiError(status, f"The upstream {host} {text}")
    return ApiError(500, f"The upstream {host} can't be reached")
