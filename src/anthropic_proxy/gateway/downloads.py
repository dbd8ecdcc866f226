"""Download the files whose URLs a request contains, for upstreams that cannot fetch them.

Clients choose the URLs, but the proxy fetches them with its own access to the network. To prevent
misuse (server-side request forgery), the proxy:

- uses only http and https, without cookies or keys;
- connects only to the hosts that the operator lists, or to public IP addresses;
- accepts only images and PDFs.

The IP address is checked when the socket is created, so that no host name, notation or redirect can
avoid the check. The host name is checked before each request, in the form in which the HTTP client
has parsed it.
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
    detect_image_type,
    inline_sources,
)
from anthropic_proxy.wire.json_codec import JsonObject

# Maximum size of all files of a request together. The API has the same limit for a request that
# contains its files.
MAX_BYTES = 32 * 1024 * 1024
# Maximum number of URLs that the proxy fetches for a request: the limit of the API for images.
MAX_FILES = 600
_TIMEOUT_SECONDS = 30.0
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_CONNECTIONS = 32

# Each turn of a conversation repeats the URLs of the earlier turns, so files are cached. The size
# limit is in base64 characters, and is larger than the largest download. Files expire, because a
# URL may return another file later.
_MAX_CACHE_SIZE = 64 * 1024 * 1024
_CACHE_SECONDS = 600.0

_PDF_MAGIC = b"%PDF-"
# Directives of cache-control (RFC 9111, 5.2.2).
_NOT_CACHEABLE = re.compile(r"\bno-(store|cache)\b", re.IGNORECASE)
_MEDIA_TYPE_PREFIXES = {"image": "image/", "document": "application/pdf"}

# IPv6 addresses of NAT64 gateways (RFC 6052). The last 32 bits are the IPv4 address.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# The range of public IPv6 addresses (RFC 4291, 2.4). Other ranges contain deprecated forms of
# private, local and IPv4 addresses. The property `is_global` does not know all of them in every
# Python version.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
# Not public, although `is_global` may be true: addresses for documentation (RFC 9637), addresses
# for IETF protocols (Oracle's cloud metadata service uses one), and the address of the Azure
# platform that virtual machines can reach.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("3fff::/20", "192.0.0.0/24", "168.63.129.16/32")))


class DownloadError(Exception):
    """A file cannot be downloaded. The text contains the reason."""


class NotPublicError(OSError):
    """The address is not public."""


class _DownloadBudget:
    """The number of bytes that a request may still download."""

    def __init__(self, size: int) -> None:
        self._bytes_left = size

    def spend(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise DownloadError(
                f"the files of a request must not exceed {MAX_BYTES // 1024 // 1024} MB in total"
            )


@dataclass(frozen=True)
class _DownloadedFile:
    # The `source` of a content block, in base64.
    source: JsonObject
    # Size of the file in bytes, before base64.
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
        """Create a downloader.

        seconds: timeout of one file, redirects included. max_bytes: limit for all files of a
        request. on_shortage: called with the name of the exhausted resource (such as file
        descriptors) when a connection fails for that reason. clock: monotonic, in seconds.
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
        """Return the request with files instead of the URLs that the upstream cannot fetch.

        Each URL is downloaded once. The given request is not changed. Raises ApiError (400), with
        the text that the API uses.
        """
        references = count_remote_sources(request, profile)
        if not references:
            return request
        if len(references) > MAX_FILES:
            raise invalid_request(
                f"messages: the request contains the URLs of {len(references)} files; "
                f"the maximum is {MAX_FILES}"
            )
        budget = _DownloadBudget(self._max_bytes)
        try:
            tasks = {}
            async with asyncio.TaskGroup() as group:
                for remote in references:
                    tasks[remote] = group.create_task(self._load_source(remote, budget))
        except ExceptionGroup as failed:
            # The task group cancels the other downloads at the first failure.
            raise failed.exceptions[0] from failed
        sources = {remote: task.result() for remote, task in tasks.items()}
        self._check_total_size(references, sources)
        return inline_sources(request, sources)

    def _check_total_size(
        self, references: Counter[RemoteSource], sources: dict[RemoteSource, JsonObject]
    ) -> None:
        """Raise ApiError (400) if the files exceed the size limit together.

        A file counts as often as the request contains its URL.
        """
        size = sum(count * len(sources[remote]["data"]) for remote, count in references.items())
        # Characters of base64.
        max_size = self._max_bytes * 4 // 3 + 4
        if size > max_size:
            megabytes = self._max_bytes // 1024 // 1024
            raise invalid_request(
                f"messages: the files that are referenced by URL must not exceed {megabytes} MB in "
                "total; each reference counts"
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
            raise DownloadError(f"not received within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            resource = find_exhausted_resource(error)
            if resource is not None:
                self._on_shortage(resource)
                raise resource_exhausted_error(resource, "download a file") from error
            raise DownloadError(_describe_error(error)) from error
        raise DownloadError(f"more than {_MAX_REDIRECTS} redirects")

    async def _get(self, url: URL, budget: _DownloadBudget) -> _ResponseBody | URL:
        """Return the body of the file, or the URL to which the server redirects."""
        self._check_allowed(url)
        async with self._get_session().get(url, allow_redirects=False) as response:
            location = response.headers.get("location")
            if response.status in _REDIRECTS and location:
                return url.join(URL(location))
            if response.status != 200:
                raise DownloadError(f"the server returned status {response.status}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise DownloadError("the server compressed it without a request to do so")
            body = bytearray()
            async for chunk in response.content.iter_any():
                budget.spend(len(chunk))
                body += chunk
            cache_control = response.headers.get("cache-control", "")
            is_cacheable = not _NOT_CACHEABLE.search(cache_control)
            return _ResponseBody(bytes(body), is_cacheable)

    def _check_allowed(self, url: URL) -> None:
        if self._policy.scope == "off":
            raise DownloadError(
                "this server does not fetch files (DOWNLOADS=off); send it in base64"
            )
        if url.scheme not in ("http", "https"):
            raise DownloadError("only http and https URLs are fetched")
        if not self._policy.allows(url.raw_host or ""):
            raise DownloadError("its host is not in the proxy's DOWNLOAD_ALLOWED_HOSTS")

    def _get_session(self) -> aiohttp.ClientSession:
        """Return the session, and create it at the first call: it needs a running event loop."""
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
    """Return whether `host` is a public IP address. IPv4 addresses within IPv6 ones are checked."""
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
    """Return the media type of a file, which its first bytes show.

    The `content-type` header of the server may be wrong. Raises DownloadError for an unsupported
    type.
    """
    media_type = detect_image_type(data)
    if data.startswith(_PDF_MAGIC):
        media_type = "application/pdf"
    if media_type.startswith(_MEDIA_TYPE_PREFIXES[kind]):
        return media_type
    if kind == "document":
        raise DownloadError("it is not a PDF")
    raise DownloadError("it is not a JPEG, PNG, GIF or WebP image")


def _describe_error(error: Exception) -> str:
    """Return the reason for the client.

    The texts of the HTTP library are not used: they contain addresses of the proxy's network.
    """
    os_error = getattr(error, "os_error", None)
    if isinstance(os_error, NotPublicError):
        return "its host has no public address; the proxy's DOWNLOAD_ALLOWED_HOSTS can allow it"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return "the connection to its host failed"
    return "its URL is invalid, or its host does not use HTTP"


def _to_api_error(url: str, reason: str) -> ApiError:
    """Return the error for the client, with only the host of the URL: its path may be secret."""
    host = re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2][:253]
    return invalid_request(
        f"Unable to download the file. Please verify the URL and try again. ({host}: {reason})"
    )
