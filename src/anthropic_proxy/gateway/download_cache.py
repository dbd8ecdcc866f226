"""Fetched files that are kept for the next turns of a conversation, which bring the same addresses again.

Bounded in size, the least recently used go first; and kept for some minutes only, as what an address names may change.
The clock is the caller's.
"""

from collections import OrderedDict
from dataclasses import dataclass

from anthropic_proxy.translate.request.media_sources import RemoteSource
from anthropic_proxy.wire.json_codec import JsonObject

# Bytes of base64.
MAX_CACHE_BYTES = 64 * 1024 * 1024
# Since it was fetched.
TTL_SECONDS = 600.0


@dataclass(frozen=True)
class DownloadedFile:
    """A downloaded file."""

    # The base64 source for a block of a request.
    source: JsonObject
    # Of the file, in bytes.
    size: int


class DownloadCache:
    """Files by their addresses. Times are in seconds, from any beginning."""

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES, ttl_seconds: float = TTL_SECONDS) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._files: OrderedDict[RemoteSource, tuple[float, DownloadedFile]] = OrderedDict()
        self._bytes = 0

    def get(self, remote: RemoteSource, now: float) -> DownloadedFile | None:
        """The file, if it is still there and not too old."""
        since, file = self._files.get(remote, (0.0, None))
        if file is None or now - since >= self._ttl_seconds:
            self._remove(remote)
            return None
        self._files.move_to_end(remote)
        return file

    def put(self, remote: RemoteSource, file: DownloadedFile, now: float) -> None:
        self._remove(remote)
        self._files[remote] = (now, file)
        self._bytes += _cached_bytes(file)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._files)))

    def _remove(self, remote: RemoteSource) -> None:
        if remote in self._files:
            self._bytes -= _cached_bytes(self._files.pop(remote)[1])


def _cached_bytes(file: DownloadedFile) -> int:
    return len(file.source["data"])
