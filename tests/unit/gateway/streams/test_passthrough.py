"""The end of a passed-through stream, without a network."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamResponse
from tests.support.splits import byte_by_byte, random_splits, whole

_START = b'event: message_start\ndata: {"type":"message_start"}\n\n'
_BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n'
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"text":"event: message_stop\\n\\n"}}\n\n'
)
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_ERROR = b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"a"}}\n\n'


class _OpenResponse:
    """Keeps the connection open after its reads."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, reads: Iterable[bytes]) -> None:
        self._reads = filter(None, reads)
        self.is_released = False

    def end_first_token_limit(self) -> None:
        """Do nothing: the reads have no time limit."""

    async def read_available(self, _: float) -> bytes | None:
        read = next(self._reads, None)
        assert read is not None, "reads after the end of the message"
        return read

    async def release(self) -> None:
        self.is_released = True

    async def aclose(self) -> None:
        raise AssertionError("the connection is not reused")


def _passed(reads: Iterable[bytes]) -> bytes:
    async def read_all() -> bytes:
        response = _OpenResponse(reads)
        stream = PassthroughStream(
            cast("UpstreamResponse", response),
            UpstreamIdentity("up"),
            "req_1",
            on_read=None,
            on_end=lambda _: None,
        )
        await stream.start()
        batches = [batch async for batch in stream]
        assert response.is_released
        return b"".join(batches)

    return asyncio.run(read_all())


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("last", [_STOP, _ERROR, _STOP.replace(b": ", b":")])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("rest", [b"", b": hb\n\n", b"data: [DONE]\n\n", _STOP, b"event: pi"])
def test_the_last_event_ends_the_stream(
    rest: bytes, line_end: bytes, last: bytes, split: Any
) -> None:
    message = (_START + _BLOCK + _DELTA + last).replace(b"\n", line_end)
    assert _passed(split(message + rest.replace(b"\n", line_end))) == message


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"message":"died","code":502}', "died"),
        (b'{"detail":"died"}', "died"),
        (b"died", "died"),
        (b'{"type":"error","error":{"type":"api_error","message":"died"}}', "died"),
        (b"{}", "without an error message"),
    ],
)
def test_an_error_before_the_first_content_keeps_its_words(
    data: bytes, message: str, split: Any
) -> None:
    with pytest.raises(ApiError, match=message):
        _passed(split(_START + b"event: error\ndata: " + data + b"\n\n"))
