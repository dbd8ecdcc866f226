"""Read a body that is not streamed, whose end may come before the end of the connection.

Some servers keep the connection open after a complete response, in silence or with heartbeats.
A JSON document is complete at its end. The body of an error may also be text.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from anthropic_proxy.wire.json_end import JsonEndFinder, is_whole_response

# Seconds after the last content of an error. Its text is complete after a short silence.
ERROR_SILENCE_SECONDS = 1
# Seconds for the complete body of an error, even if it has not begun or does not end.
ERROR_SECONDS = 10
# Seconds after a document that may be the first of several lines (JSON Lines).
NEXT_LINE_SECONDS = 1

# Returns the next bytes, b"" at a time of the event loop's clock, or None at the end of the body.
_Read = Callable[[float], Awaitable[bytes | None]]


class CompleteBody:
    """The body of a response, while it is read. `read` of an object reads it once."""

    def __init__(self, read_available: _Read, beginning: bytes, *, is_error: bool) -> None:
        """Create the body.

        beginning: bytes that have been read. is_error: whether the body is that of an error, which
        may be incomplete.
        """
        self._read_available = read_available
        self._is_error = is_error
        self._loop = asyncio.get_running_loop()
        # On the clock of the event loop, as `_until`.
        self._deadline = self._loop.time() + ERROR_SECONDS if is_error else math.inf
        self._finder = JsonEndFinder()
        self._chunks: list[bytes] = []
        # True if the bytes so far end with a complete document.
        self._is_complete = False
        # True if that document is only the first of several.
        self._has_lines = False
        # The time until which to wait for the next bytes.
        self._until = self._deadline
        self._add(beginning)

    @property
    def is_usable(self) -> bool:
        """True if the rest of the body is not necessary."""
        return self._is_complete or (self._is_error and bool(self.join().strip()))

    async def read(self) -> None:
        """Read until the body is complete. After an exception, `is_usable` may be true."""
        while (chunk := await self._read_available(self._until)) is not None:
            now = self._loop.time()
            if self._is_complete and not self._has_lines:
                # What has arrived after the document is read only if it belongs to the response.
                if is_whole_response(self.join()):
                    return
                self._has_lines = True
                self._until = min(now + NEXT_LINE_SECONDS, self._deadline)
            elif now >= self._deadline or (now >= self._until and not chunk.strip()):
                return
            self._add(chunk)

    def join(self) -> bytes:
        """Return the bytes so far."""
        return b"".join(self._chunks)

    def _add(self, chunk: bytes) -> None:
        """Add bytes. White space, which some servers send as a heartbeat, is no content."""
        self._chunks.append(chunk)
        if chunk.strip():
            self._is_complete = self._finder.feed(chunk)
            self._until = min(self._loop.time() + self._patience(), self._deadline)

    def _patience(self) -> float:
        """Return the seconds without content after which the body ends."""
        if self._is_complete:
            # Usually the end of the body has arrived together with its last bytes.
            return NEXT_LINE_SECONDS if self._has_lines else 0
        return ERROR_SILENCE_SECONDS if self._is_error else math.inf
