"""HTTP/2 frame parsing, frame budget and send buffer, without a connection."""

import asyncio
import random

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)

from anthropic_proxy.server.http2_frames import FrameBudget, FrameReader, SendBuffer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = [
    (SettingsFrame(0).serialize(), 1),
    (HeadersFrame(1, b"\x82").serialize(), 0),
    (ContinuationFrame(1, b"\x82").serialize(), 0),
    (DataFrame(1, b"x" * 300).serialize(), 0),
    (DataFrame(1).serialize(), 1),
    (PingFrame(0, b"12345678").serialize(), 1),
]


@pytest.mark.parametrize("size", [1, 2, 9, 64, 10**6])
@pytest.mark.parametrize("seed", range(3))
def test_frames_are_parsed_from_reads_of_any_size(size: int, seed: int) -> None:
    frames = random.Random(seed).choices(FRAMES, k=200)  # noqa: S311 - no secret
    sent = PREFACE + b"".join(frame for frame, _ in frames)
    reader = FrameReader()
    batches = [
        batch
        for start in range(0, len(sent), size)
        for batch in reader.split_batches(sent[start : start + size])
    ]
    assert b"".join(batch.data for batch in batches) == sent
    assert sum(batch.control_frames for batch in batches) == sum(count for _, count in frames)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_goaway_frames_are_removed(size: int) -> None:
    ping = PingFrame(0, b"12345678").serialize()
    sent = PREFACE + ping + GoAwayFrame(0, 0, 0, additional_data=b"x" * 40).serialize() + ping
    reader = FrameReader()
    batches = [
        batch
        for start in range(0, len(sent), size)
        for batch in reader.split_batches(sent[start : start + size])
    ]
    assert b"".join(batch.data for batch in batches) == PREFACE + ping + ping
    assert reader.has_received_goaway


def test_a_batch_has_at_most_64_control_frames() -> None:
    ping = PingFrame(0, b"12345678").serialize()
    batches = list(FrameReader().split_batches(PREFACE + ping * 1000))
    assert max(batch.control_frames for batch in batches) == 64


def test_time_and_traffic_refill_the_frame_budget() -> None:
    now = 0.0
    budget = FrameBudget(lambda: now)
    assert budget.spend(1000)
    budget.earn()
    assert budget.spend(4)
    now = 0.5
    assert budget.spend(50)
    assert not budget.spend(1)
    now = 1000.0
    assert budget.spend(900)
    assert not budget.spend(200)


async def _run_pending_callbacks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_push_waits_for_space_in_the_buffer() -> None:
    async def check() -> None:
        buffer = SendBuffer()
        writing = asyncio.ensure_future(buffer.push(b"x" * 40_000))
        await _run_pending_callbacks()
        assert await buffer.pop(0) == b""
        await _run_pending_callbacks()
        assert not writing.done()
        assert len(await buffer.pop(30_000)) == 30_000
        await writing
        assert not buffer.complete
        draining = asyncio.ensure_future(buffer.drain())
        buffer.set_complete()
        await _run_pending_callbacks()
        assert not draining.done()
        assert await buffer.pop(30_000) == b"x" * 10_000
        await draining
        assert buffer.complete

    asyncio.run(check())


def test_closing_the_buffer_releases_waiting_writers() -> None:
    async def check() -> None:
        buffer = SendBuffer()
        writing = asyncio.ensure_future(buffer.push(b"x" * 40_000))
        await _run_pending_callbacks()
        await buffer.close()
        await writing
        await buffer.push(b"x" * 40_000)
        await buffer.drain()
        assert buffer.complete
        assert await buffer.pop(10) == b""

    asyncio.run(check())


@pytest.mark.parametrize("seed", range(5))
def test_bytes_are_read_in_the_order_of_writes(seed: int) -> None:
    async def check() -> None:
        rng = random.Random(seed)  # noqa: S311 - no secret
        chunks = [bytes([number]) * rng.randrange(50) for number in range(100)]
        buffer = SendBuffer()
        for chunk in chunks:
            await buffer.push(chunk)
        buffer.set_complete()
        received = b""
        while not buffer.complete:
            received += await buffer.pop(rng.randrange(70))
        assert received == b"".join(chunks)

    asyncio.run(check())
