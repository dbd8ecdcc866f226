"""Files that a request names by their addresses, fetched for upstreams that can't: the second door to the network.

The addresses come from clients, and what they name is read on the proxy's behalf. So only http and https are spoken, only
to hosts that the operator lists or, unless it says otherwise, to public addresses, without cookies or keys, and only images
and PDFs come of it. The check of the address sits where the socket is made, so that no name, no notation and no redirect
gets around it; names are checked as the HTTP client reads them, before each request.
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
from typing import Any

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

# What all files of one request may have together: the API's own limit for a request with the files in it.
MAX_BYTES = 32 * 1024 * 1024
# The API's own limit for images. Without one a request could set the proxy on any number of addresses.
MAX_FILES = 600
_TIMEOUT_SECONDS = 30.0
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_CONNECTIONS = 32

# Conversations repeat their addresses with each turn, so files are cached. The limit is in characters
# of base64 and holds the largest download. Files expire, since an address may name another file later.
_MAX_CACHE_SIZE = 64 * 1024 * 1024
_CACHE_SECONDS = 600.0

# The first bytes of what is taken.
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
# All of IPv6 that is given to the public (RFC 4291, 2.4): outside are old forms of private, local and IPv4 addresses that
# `is_global` knows only in part, depending on the Python.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
# Not public, whatever `is_global` says: documentation (RFC 9637), IETF protocols (Oracle's cloud has its metadata there),
# and the address of Azure's platform, which answers to virtual machines alone.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("3fff::/20", "192.0.0.0/24", "168.63.129.16/32")))


class DownloadError(Exception):
    """A file can't be fetched; the text says why."""


class NotPublicError(OSError):
    """The address is not one of the public internet."""


class _DownloadBudget:
    """Bytes that a request's downloads may still have together."""

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
    """Fetches files, whose `policy` says, and keeps them for a while."""

    def __init__(
        self,
        policy: DownloadPolicy | None = None,
        *,
        seconds: float = _TIMEOUT_SECONDS,
        max_bytes: int = MAX_BYTES,
        on_shortage: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_shortage: called with the name of what this server has run out of, when a connection can't be made."""
        self._on_shortage = on_shortage
        self._policy = policy or DownloadPolicy()
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._cache: TTLCache[RemoteSource, _DownloadedFile] = TTLCache(
            _MAX_CACHE_SIZE, _CACHE_SECONDS, timer=clock, getsizeof=_cached_size
        )
        self._session: aiohttp.ClientSession | None = None

    async def inline_files(self, request: JsonObject, profile: ProviderProfile) -> JsonObject:
        """The request with the files themselves in place of addresses that the upstream can't fetch, each fetched once.

        The given request is not changed. Raises ApiError (400), in the API's words.
        """
        references = count_remote_sources(request, profile)
        if not references:
            return request
        if len(references) > MAX_FILES:
            raise invalid_request(
                f"messages: {len(references)} files are named by address, and at most {MAX_FILES} are fetched"
            )
        budget = _DownloadBudget(self._max_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    remote: group.create_task(self._load_source(remote, budget))
                    for remote in references
                }
        except ExceptionGroup as failed:
            # The others were cancelled for the first, or failed with it.
            raise failed.exceptions[0] from failed
        sources = {remote: task.result() for remote, task in tasks.items()}
        self._check_total_size(references, sources)
        return inline_sources(request, sources)

    def _check_total_size(
        self, references: Counter[RemoteSource], sources: dict[RemoteSource, JsonObject]
    ) -> None:
        """Raise ApiError (400) where files that the request names often have too many bytes together, in base64."""
        if (
            sum(count * len(sources[remote]["data"]) for remote, count in references.items())
            > self._max_bytes * 4 // 3 + 4
        ):
            megabytes = self._max_bytes // 1024 // 1024
            raise invalid_request(
                f"messages: files named by address may have {megabytes} MB together, counted as often as they are named"
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
        """The body, or the address that the server sends us to."""
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
            return _ResponseBody(
                bytes(body), not _NOT_CACHEABLE.search(response.headers.get("cache-control", ""))
            )

    def _check_allowed(self, url: URL) -> None:
        if self._policy.scope == "off":
            raise DownloadError("this server fetches no files (DOWNLOADS=off); send it in base64")
        if url.scheme not in ("http", "https"):
            raise DownloadError("only http and https addresses are fetched")
        if not self._policy.allows(url.raw_host or ""):
            raise DownloadError("its host is not one of the proxy's DOWNLOAD_ALLOWED_HOSTS")

    def _get_session(self) -> aiohttp.ClientSession:
        """The session, made within the event loop that uses it."""
        if self._session is None:
            socket_options: dict[str, Any] = (
                {"socket_factory": _create_public_socket} if self._policy.public_only else {}
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, **socket_options),
                headers={"user-agent": "anthropic-proxy", "accept-encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._policy.uses_proxy,
            )
        return self._session


def _cached_size(file: _DownloadedFile) -> int:
    return len(file.source["data"])


def is_public_address(host: str) -> bool:
    """Whether `host` is an IP address of the public internet; an IPv4 address within an IPv6 one counts as itself."""
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
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _NOT_PUBLIC)
    )


def _create_public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, location = address
    if not is_public_address(str(location[0])):
        raise NotPublicError("not a public address")
    return socket.socket(family, kind, protocol)


def _detect_media_type(data: bytes, kind: str) -> str:
    """By the first bytes of the file, whatever its server says. Raises DownloadError for what is not of that kind."""
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    media_type = (
        "image/webp"
        if is_webp
        else next((name for magic, name in _MAGIC if data.startswith(magic)), "")
    )
    if not media_type.startswith(_MEDIA_TYPE_PREFIXES[kind]):
        raise DownloadError(
            "it is no PDF" if kind == "document" else "it is no JPEG, PNG, GIF or WebP image"
        )
    return media_type


def _describe_error(error: Exception) -> str:
    """In our words: the library's hold addresses of the network that the proxy stands in."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, NotPublicError
    ):
        return "its host has no public address (DOWNLOAD_ALLOWED_HOSTS of the proxy can name it)"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host is unknown"
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return "the connection to its host failed"
    return "it is no usable address, or its host does not speak HTTP"


def _to_api_error(url: str, reason: str) -> ApiError:
    """The path and query of an address may be secret; errors are logged."""
    host = re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2][:253]
    return invalid_request(
        f"Unable to download the file. Please verify the URL and try again. ({host}: {reason})"
    )
