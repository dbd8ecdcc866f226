"""Fetched files that are kept for the next turns of a conversation, which bring the same addresses again.

Bounded in size, the least recently used go first; and kept for some minutes only, as what an address names may change.
The clock is the caller's.
"""

from collections import OrderedDict
from dataclasses import dataclass

from anthropic_proxy.translate.request.media_sources import Remote
from anthropic_proxy.wire.json_codec import JsonObject

# Bytes of base64.
MAX_BYTES = 64 * 1024 * 1024
# Since it was fetched.
SECONDS = 600.0


@dataclass(frozen=True)
class File:
    """source: in base64, as a block of a request has it. size: of the file, in bytes."""

    source: JsonObject
    size: int


class KeptFiles:
    """Files by their addresses. Times are in seconds, from any beginning."""

    def __init__(self, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._files: OrderedDict[Remote, tuple[float, File]] = OrderedDict()
        self._bytes = 0

    def get(self, remote: Remote, now: float) -> File | None:
        """The file, if it is still there and not too old."""
        since, file = self._files.get(remote, (0.0, None))
        if file is None or now - since >= self._seconds:
            self._forget(remote)
            return None
        self._files.move_to_end(remote)
        return file

    def keep(self, remote: Remote, file: File, now: float) -> None:
        self._forget(remote)
        self._files[remote] = (now, file)
        self._bytes += _length(file)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._files)))

    def _forget(self, remote: Remote) -> None:
        if remote in self._files:
            self._bytes -= _length(self._files.pop(remote)[1])


def _length(file: File) -> int:
    return len(file.source["data"])
