"""Limits for HTTP/2 connections (RFC 9113): buffered bytes, and work caused by control frames."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Limits of the bytes of one stream that wait to be sent, in frames of the default size. A writer
# waits when the buffer reaches _HIGH_WATER, until it is below _LOW_WATER.
_HIGH_WATER = 2 * 2**14
_LOW_WATER = _HIGH_WATER // 2

# Frames that are processed before other connections run; about 10 ms of work.
_FRAMES_PER_BATCH = 64

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_LENGTH = 9
_DATA = 0x0
_HEADERS = 0x1
_GOAWAY = 0x7
_CONTINUATION = 0x9

# Control frames that a client may send at once, and per second.
_BURST = 1000
_REFILL_PER_SECOND = 100
# Additional control frames for each DATA frame that the client receives, because the client
# acknowledges it on the stream and on the connection. Requests add none: this also limits requests
# that the client resets at once.
_EARNED_PER_DATA_FRAME = 4
_MAX_EARNED = 50_000


class SendBuffer:
    """Bytes of one stream that wait to be sent.

    It has the interface of Hypercorn's StreamBuffer. Writers of that class never wait: it treats a
    pop of no bytes, caused by an exhausted flow control window, as an empty buffer. Chunks are not
    copied, so that many streams can share the same body.
    """

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        # Bytes of the first chunk that have been sent.
        self._first_offset = 0
        # Bytes of all chunks that have not been sent.
        self._length = 0
        self._is_complete = False
        self._is_empty = asyncio.Event()
        self._has_room = asyncio.Event()

    @property
    def complete(self) -> bool:
        """True if all bytes have been sent and no more will follow."""
        return self._is_complete and not self._length

    async def push(self, data: bytes) -> None:
        """Append bytes, and wait while the buffer is full.

        A closed buffer drops the bytes: the client has disconnected.
        """
        if self._is_complete or not data:
            return
        self._chunks.append(data)
        self._length += len(data)
        self._is_empty.clear()
        if self._length >= _HIGH_WATER:
            self._has_room.clear()
            await self._has_room.wait()

    async def pop(self, max_length: int) -> bytes:
        """Remove and return up to `max_length` bytes."""
        parts: list[bytes] = []
        room = max_length
        while room and self._chunks:
            first = self._chunks[0]
            part = first[self._first_offset : self._first_offset + room]
            parts.append(part)
            room -= len(part)
            self._first_offset += len(part)
            if self._first_offset == len(first):
                self._chunks.popleft()
                self._first_offset = 0
        self._length -= max_length - room
        if self._length < _LOW_WATER:
            self._has_room.set()
        if not self._length:
            self._is_empty.set()
        return b"".join(parts)

    async def drain(self) -> None:
        """Wait until all bytes have been sent."""
        await self._is_empty.wait()

    def set_complete(self) -> None:
        """Record that no more bytes will follow."""
        self._is_complete = True

    async def close(self) -> None:
        """Drop all bytes and wake the writers."""
        self._is_complete = True
        self._chunks.clear()
        self._length = self._first_offset = 0
        self._has_room.set()
        self._is_empty.set()


class FrameBatch(NamedTuple):
    """Bytes to process together."""

    data: bytes
    # Number of control frames that begin in `data`.
    control_frames: int


class FrameReader:
    """Split the bytes of a connection into frames.

    It removes GOAWAY frames, because h2 drops all open streams when it receives one. A client sends
    GOAWAY when it will not open more streams; open streams must continue (RFC 9113, 6.8).
    """

    def __init__(self) -> None:
        self.has_received_goaway = False
        # Bytes until the next frame header: the rest of the preface or of a frame.
        self._skip = len(_PREFACE)
        # Part of the next frame header that has arrived.
        self._header = b""
        # Whether to remove the current frame.
        self._removes_frame = False

    def split_batches(self, data: bytes) -> Iterator[FrameBatch]:
        """Yield the next bytes from the client in batches of at most _FRAMES_PER_BATCH frames.

        An incomplete frame header is stored until its rest arrives.
        """
        forwarded: list[bytes] = []
        offset = frames = control_frames = 0
        while offset < len(data):
            if self._skip:
                part = data[offset : offset + self._skip]
                self._skip -= len(part)
                if not self._removes_frame:
                    forwarded.append(part)
            else:
                part = data[offset : offset + _HEADER_LENGTH - len(self._header)]
                self._header += part
            offset += len(part)
            if len(self._header) < _HEADER_LENGTH:
                continue
            self._begin_frame(forwarded)
            control_frames += self._is_control_frame()
            self._header = b""
            frames += 1
            if frames == _FRAMES_PER_BATCH:
                yield FrameBatch(b"".join(forwarded), control_frames)
                forwarded = []
                frames = control_frames = 0
        yield FrameBatch(b"".join(forwarded), control_frames)

    def _begin_frame(self, forwarded: list[bytes]) -> None:
        self._skip = int.from_bytes(self._header[:3], "big")
        self._removes_frame = self._header[3] == _GOAWAY
        if self._removes_frame:
            self.has_received_goaway = True
        else:
            forwarded.append(self._header)

    def _is_control_frame(self) -> bool:
        """Return whether the current frame causes work but is not part of a request."""
        frame_type = self._header[3]
        if frame_type == _DATA:
            return self._skip == 0
        # h2 limits HEADERS and CONTINUATION.
        return frame_type not in {_HEADERS, _CONTINUATION}


class FrameBudget:
    """Limit the control frames of a connection (RFC 9113, 10.5).

    The limit grows with the data that the client receives.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Create the budget of a connection. clock: returns monotonic time in seconds."""
        self._clock = clock
        self._updated_at = clock()
        self._remaining = float(_BURST)
        self._allowance = 0

    def earn(self) -> None:
        """Allow more control frames, because a DATA frame is sent to the client."""
        self._allowance = min(self._allowance + _EARNED_PER_DATA_FRAME, _MAX_EARNED)

    def spend(self, frames: int) -> bool:
        """Count control frames, and return whether they are within the budget."""
        now = self._clock()
        self._remaining = min(
            self._remaining + (now - self._updated_at) * _REFILL_PER_SECOND, _BURST
        )
        self._updated_at = now
        from_allowance = min(frames, self._allowance)
        self._allowance -= from_allowance
        self._remaining -= frames - from_allowance
        return self._remaining >= 0
