"""The life of a stream, without a network: how it starts, fails and ends."""

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamResponse

START = b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n'


class Response:
    """A response of an upstream: the given reads, where an exception is raised."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, reads: Iterable[bytes | BaseException]) -> None:
        self._reads = iter(reads)
        self.is_closed = False

    def end_first_token_limit(self) -> None:
        """Do nothing: the given reads have no time limit."""

    async def read_available(self, _: float) -> bytes | None:
        read = next(self._reads, None)
        if isinstance(read, BaseException):
            raise read
        return read

    async def release(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def create_stream(
    reads: Iterable[bytes | BaseException], ended: list[PassthroughStream]
) -> tuple[PassthroughStream, Response]:
    response = Response(reads)
    stream = PassthroughStream(
        cast("UpstreamResponse", response),
        UpstreamIdentity("up"),
        "req_1",
        on_read=None,
        on_end=ended.append,
    )
    return stream, response


def test_a_bug_becomes_an_error_event_that_does_not_describe_it() -> None:
    ended: list[PassthroughStream] = []
    bug = RuntimeError("a bug")

    async def read_all() -> tuple[bytes, PassthroughStream]:
        stream, _ = create_stream([START, bug], ended)
        await stream.start()
        return b"".join([batch async for batch in stream]), stream

    output, stream = asyncio.run(read_all())
    assert output.startswith(START + b"event: error\n")
    assert b"Internal server error" in output
    assert b"a bug" not in output
    assert stream.unexpected_error is bug
    assert stream.error is not None


@pytest.mark.parametrize("failure", [ApiError(429, "slow down"), RuntimeError("a bug")])
def test_a_stream_that_does_not_start_is_closed(failure: Exception) -> None:
    ended: list[PassthroughStream] = []

    async def start() -> tuple[PassthroughStream, Response]:
        stream, response = create_stream([failure], ended)
        with pytest.raises(type(failure)):
            await stream.start()
        return stream, response

    stream, response = asyncio.run(start())
    assert response.is_closed
    assert ended == [stream]
    assert not stream.started
    assert stream.error is (failure if isinstance(failure, ApiError) else None)


def test_the_end_is_reported_once() -> None:
    ended: list[PassthroughStream] = []

    async def close_twice() -> PassthroughStream:
        stream, _ = create_stream([START], ended)
        await stream.start()
        await stream.aclose()
        await stream.aclose()
        return stream

    assert [asyncio.run(close_twice())] == ended
