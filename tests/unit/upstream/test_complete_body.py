"""The end of a body while its connection stays open, on a clock that the test moves."""

import asyncio
from dataclasses import dataclass, field

import pytest

from anthropic_proxy.upstream.complete_body import (
    ERROR_SECONDS,
    ERROR_SILENCE_SECONDS,
    NEXT_LINE_SECONDS,
    CompleteBody,
)

_WHOLE = b'{"choices":[{"message":{"content":"a"}}]}'
_LINE = b'{"choices":[{"delta":{"content":"a"}}]}\n'
_END = None
# Seconds between two reads of a server that sends slowly.
_PAUSE = 0.5


@dataclass
class _Connection:
    """Sends its reads with a pause before each, and then the heartbeat for ever."""

    reads: list[bytes | None]
    heartbeat: bytes = b""
    pause: float = _PAUSE
    now: float = 100
    sent_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.sent_at = self.now + self.pause

    async def read_available(self, until: float) -> bytes | None:
        if not self.reads and not self.heartbeat:
            assert until < 10_000, "waits for the end of the connection"
        if until < self.sent_at or not (self.reads or self.heartbeat):
            self.now = max(self.now, until)
            return b""
        self.now = max(self.now, self.sent_at)
        self.sent_at = self.now + self.pause
        return self.reads.pop(0) if self.reads else self.heartbeat


def _read(
    connection: _Connection, *, is_error: bool = False, beginning: bytes = b""
) -> tuple[bytes, float]:
    """Return the body, and the seconds until it was returned."""

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        loop.time = lambda: connection.now  # type: ignore[method-assign]
        body = CompleteBody(connection.read_available, beginning, is_error=is_error)
        await body.read()
        return body.join()

    started_at = connection.now
    return asyncio.run(read()), connection.now - started_at


@pytest.mark.parametrize("heartbeat", [b"", b"\n", b": hb\n\n"])
@pytest.mark.parametrize("is_error", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 20, len(_WHOLE)])
def test_a_response_ends_with_its_document(cut: int, is_error: bool, heartbeat: bytes) -> None:
    connection = _Connection([b"\n", b" ", _WHOLE[:cut], _WHOLE[cut:]], heartbeat)
    connection.reads = [read for read in connection.reads if read]
    pauses = len(connection.reads)
    body, seconds = _read(connection, is_error=is_error)
    assert body.strip() == _WHOLE
    assert seconds == pauses * _PAUSE


def test_the_beginning_may_be_the_complete_response() -> None:
    assert _read(_Connection([]), beginning=_WHOLE) == (_WHOLE, 0)


@pytest.mark.parametrize("heartbeat", [b"", b"\n"])
def test_lines_may_follow_a_line(heartbeat: bytes) -> None:
    connection = _Connection([_LINE, _LINE, b"\n", _LINE], heartbeat)
    body, seconds = _read(connection)
    assert body.replace(b"\n\n", b"\n").rstrip() == (_LINE * 3).rstrip()
    assert seconds == pytest.approx(4 * _PAUSE + NEXT_LINE_SECONDS)


@pytest.mark.parametrize("reads", [[_WHOLE], [_LINE, _LINE], [b"text"], [b"{"], []])
@pytest.mark.parametrize("is_error", [False, True])
def test_the_end_of_the_body_ends_it(reads: list[bytes], is_error: bool) -> None:
    connection = _Connection([*reads, _END], pause=0)
    assert _read(connection, is_error=is_error) == (b"".join(reads), 0)


@pytest.mark.parametrize(
    "text", [b"upstream timed out", b"<html>", b'{"error":{"mess', b"data: {}"]
)
@pytest.mark.parametrize("heartbeat", [b"", b"\n"])
def test_an_error_ends_after_a_silence(text: bytes, heartbeat: bytes) -> None:
    connection = _Connection([text[:3], text[3:]], heartbeat)
    body, seconds = _read(connection, is_error=True)
    assert body.strip() == text
    assert seconds == pytest.approx(2 * _PAUSE + ERROR_SILENCE_SECONDS)


@pytest.mark.parametrize("heartbeat", [b"", b"\n", b"more"])
def test_an_error_has_a_time_limit(heartbeat: bytes) -> None:
    _, seconds = _read(_Connection([], heartbeat), is_error=True)
    assert seconds == pytest.approx(ERROR_SECONDS)


@pytest.mark.parametrize("text", [b"text", b'{"choices":[', b'"text"'])
def test_an_incomplete_response_waits(text: bytes) -> None:
    with pytest.raises(AssertionError, match="waits for the end"):
        _read(_Connection([text]))
