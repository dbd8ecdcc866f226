"""Download the files that a request names by address, for upstreams that cannot fetch them.

The addresses come from clients, and the proxy fetches them with its own access to the network. So
it uses only http and https, without cookies or keys, connects only to hosts that the operator lists
or to public addresses, and accepts only images and PDFs. The address is checked where the socket is
created, so that no name, notation or redirect avoids the check. Names are checked before each
request, as the HTTP client parses them.
"""

import asyncio
import base64
import ipaddress
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from cachetools import TTLCache
from yarl import URL

from anthropic_proxy.config.download_policy import DownloadPolicy
from anthropic_proxy.errors import ApiError, invalid_request, resource_exhausted_error
from anthropic_proxy.observability.resource_exhaustion import find_exhausted_resource
from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.translate.request.media_sources import (
    RemoteSource,
    count_remote_sources,
    inline_sources,
)
from anthropic_proxy.wire.json_codec import JsonObject

# Of all files of one request: the API's own limit for a request with the files in it.
MAX_BYTES = 32 * 1024 * 1024
# The API's own limit for images. It bounds the number of addresses that a request makes the proxy
# fetch.
MAX_FILES = 600
_TIMEOUT_SECONDS = 30.0
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_CONNECTIONS = 32

# Conversations repeat their addresses with each turn, so files are cached. The limit is in
# characters of base64 and holds the largest download. Files expire, since an address may name
# another file later.
_MAX_CACHE_SIZE = 64 * 1024 * 1024
_CACHE_SECONDS = 600.0

# The first bytes of accepted files.
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
)
# Directives of cache-control (RFC 9111, 5.2.2).
_NOT_CACHEABLE = re.compile(r"\bno-(store|cache)\b", re.IGNORECASE)
_MEDIA_TYPE_PREFIXES = {"image": "image/", "document": "application/pdf"}

# IPv6 addresses of gateways into IPv4: the IPv4 address is in the last 32 bits.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# The public part of IPv6 (RFC 4291, 2.4). Outside are old forms of private, local and IPv4
# addresses that `is_global` knows only in part, depending on the version of Python.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
# Not public, although `is_global` may be true: documentation (RFC 9637), IETF protocols (with the
# metadata of Oracle's cloud), and the address of Azure's platform, which virtual machines reach.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("3fff::/20", "192.0.0.0/24", "168.63.129.16/32")))


class DownloadError(Exception):
    """A file can't be downloaded; the text has the reason."""


class NotPublicError(OSError):
    """The address is not public."""


class _DownloadBudget:
    """The bytes that the downloads of a request may still take."""

    def __init__(self, size: int) -> None:
        self._bytes_left = size

    def spend(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise DownloadError(
                f"files of a request may have {MAX_BYTES // 1024 // 1024} MB together"
            )


@dataclass(frozen=True)
class _DownloadedFile:
    # The base64 source for a block of a request.
    source: JsonObject
    # Of the file, in bytes.
    size: int


@dataclass(frozen=True)
class _ResponseBody:
    """The body of a downloaded file."""

    data: bytes
    # Whether the response headers allow it to be reused.
    is_cacheable: bool


class FileDownloader:
    """Downloads files from the hosts that `policy` allows, and caches them."""

    def __init__(
        self,
        policy: DownloadPolicy | None = None,
        *,
        seconds: float = _TIMEOUT_SECONDS,
        max_bytes: int = MAX_BYTES,
        on_shortage: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_shortage: called with the name of the exhausted resource when a connection fails.
        clock: monotonic, in seconds.
        """
        self._on_shortage = on_shortage
        self._policy = policy or DownloadPolicy()
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._cache: TTLCache[RemoteSource, _DownloadedFile] = TTLCache(
            _MAX_CACHE_SIZE, _CACHE_SECONDS, timer=clock, getsizeof=_cached_size
        )
        self._session: aiohttp.ClientSession | None = None

    async def inline_files(self, request: JsonObject, profile: ProviderProfile) -> JsonObject:
        """Return the request with files in place of the addresses that the upstream cannot fetch.

        Each address is downloaded once. The given request is not changed. Raises ApiError (400),
        with the text of the API.
        """
        references = count_remote_sources(request, profile)
        if not references:
            return request
        if len(references) > MAX_FILES:
            raise invalid_request(
                f"messages: {len(references)} files are named by address, "
                f"and at most {MAX_FILES} are fetched"
            )
        budget = _DownloadBudget(self._max_bytes)
        try:
            tasks = {}
            async with asyncio.TaskGroup() as group:
                for remote in references:
                    tasks[remote] = group.create_task(self._load_source(remote, budget))
        except ExceptionGroup as failed:
            # The first failure cancelled the others, or they failed at the same time.
            raise failed.exceptions[0] from failed
        sources = {remote: task.result() for remote, task in tasks.items()}
        self._check_total_size(references, sources)
        return inline_sources(request, sources)

    def _check_total_size(
        self, references: Counter[RemoteSource], sources: dict[RemoteSource, JsonObject]
    ) -> None:
        """Raise ApiError (400) for files that are too large together, counted for each use."""
        size = sum(count * len(sources[remote]["data"]) for remote, count in references.items())
        # In base64.
        max_size = self._max_bytes * 4 // 3 + 4
        if size > max_size:
            megabytes = self._max_bytes // 1024 // 1024
            raise invalid_request(
                f"messages: files named by address may have {megabytes} MB together, "
                "counted as often as they are named"
            )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _load_source(self, remote: RemoteSource, budget: _DownloadBudget) -> JsonObject:
        try:
            file = self._cache.get(remote)
            if file is not None:
                budget.spend(file.size)
                return file.source
            return await self._download(remote, budget)
        except DownloadError as error:
            raise _to_api_error(remote.url, str(error)) from error

    async def _download(self, remote: RemoteSource, budget: _DownloadBudget) -> JsonObject:
        body = await self._fetch(remote.url, budget)
        media_type = _detect_media_type(body.data, remote.kind)
        data = base64.b64encode(body.data).decode()
        source = {"type": "base64", "media_type": media_type, "data": data}
        file = _DownloadedFile(source, len(body.data))
        if body.is_cacheable:
            self._cache[remote] = file
        return file.source

    async def _fetch(self, address: str, budget: _DownloadBudget) -> _ResponseBody:
        try:
            url = URL(address)
            async with asyncio.timeout(self._seconds):
                for _ in range(_MAX_REDIRECTS + 1):
                    result = await self._get(url, budget)
                    if isinstance(result, _ResponseBody):
                        return result
                    url = result
        except TimeoutError:
            raise DownloadError(f"it did not come within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            resource = find_exhausted_resource(error)
            if resource is not None:
                self._on_shortage(resource)
                raise resource_exhausted_error(resource, "download a file") from error
            raise DownloadError(_describe_error(error)) from error
        raise DownloadError("it redirects too often")

    async def _get(self, url: URL, budget: _DownloadBudget) -> _ResponseBody | URL:
        """Return the body, or the address of a redirect."""
        self._check_allowed(url)
        async with self._get_session().get(url, allow_redirects=False) as response:
            location = response.headers.get("location")
            if response.status in _REDIRECTS and location:
                return url.join(URL(location))
            if response.status != 200:
                raise DownloadError(f"the server answered {response.status}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise DownloadError("the server sent it compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_any():
                budget.spend(len(chunk))
                body += chunk
            cache_control = response.headers.get("cache-control", "")
            is_cacheable = not _NOT_CACHEABLE.search(cache_control)
            return _ResponseBody(bytes(body), is_cacheable)

    def _check_allowed(self, url: URL) -> None:
        if self._policy.scope == "off":
            raise DownloadError("this server fetches no files (DOWNLOADS=off); send it in base64")
        if url.scheme not in ("http", "https"):
            raise DownloadError("only http and https addresses are fetched")
        if not self._policy.allows(url.raw_host or ""):
            raise DownloadError("its host is not one of the proxy's DOWNLOAD_ALLOWED_HOSTS")

    def _get_session(self) -> aiohttp.ClientSession:
        """Return the session, which is created in the event loop that uses it."""
        if self._session is None:
            socket_factory = _create_public_socket if self._policy.public_only else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_MAX_CONNECTIONS, socket_factory=socket_factory
                ),
                headers={"user-agent": "anthropic-proxy", "accept-encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._policy.uses_proxy,
            )
        return self._session


def _cached_size(file: _DownloadedFile) -> int:
    return len(file.source["data"])


def is_public_address(host: str) -> bool:
    """Return whether `host` is a public IP address, possibly an IPv4 address within an IPv6 one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        embedded_address = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            embedded_address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded_address is not None:
            return is_public_address(str(embedded_address))
        if address not in _IPV6_PUBLIC:
            return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _create_public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, location = address
    if not is_public_address(str(location[0])):
        raise NotPublicError("not a public address")
    return socket.socket(family, kind, protocol)


def _detect_media_type(data: bytes, kind: str) -> str:
    """Return the media type by the first bytes of a file. Raises DownloadError for others.

    The server's media type may be wrong.
    """
    media_type = ""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        media_type = "image/webp"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            media_type = name
    if media_type.startswith(_MEDIA_TYPE_PREFIXES[kind]):
        return media_type
    if kind == "document":
        raise DownloadError("it is no PDF")
    raise DownloadError("it is no JPEG, PNG, GIF or WebP image")


def _describe_error(error: Exception) -> str:
    """Return the reason in our words: the library's texts have addresses of the proxy's network."""
    os_error = getattr(error, "os_error", None)
    if isinstance(os_error, NotPublicError):
        return "its host has no public address (DOWNLOAD_ALLOWED_HOSTS of the proxy can name it)"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host is unknown"
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return "the connection to its host failed"
    return "it is no usable address, or its host does not speak HTTP"


def _to_api_error(url: str, reason: str) -> ApiError:
    """Return the error for the client. It shows no path and query, which may be secret."""
    host = re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2][:253]
    return invalid_request(
        f"Unable to download the file. Please verify the URL and try again. ({host}: {reason})"
    )
