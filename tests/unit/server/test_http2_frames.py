"""The parts of flow control that need no connection."""

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
def test_frames_are_found_however_they_are_cut(size: int, seed: int) -> None:
    chosen = random.Random(seed).choices(FRAMES, k=200)  # noqa: S311 - no secret
    sent = PREFACE + b"".join(frame for frame, _ in chosen)
    reader = FrameReader()
    turns = [
        turn
        for at in range(0, len(sent), size)
        for turn in reader.split_batches(sent[at : at + size])
    ]
    assert b"".join(turn.data for turn in turns) == sent
    assert sum(turn.control_frames for turn in turns) == sum(count for _, count in chosen)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_goaway_is_left_out(size: int) -> None:
    ping = PingFrame(0, b"12345678").serialize()
    sent = PREFACE + ping + GoAwayFrame(0, 0, 0, additional_data=b"x" * 40).serialize() + ping
    reader = FrameReader()
    turns = [
        turn
        for at in range(0, len(sent), size)
        for turn in reader.split_batches(sent[at : at + size])
    ]
    assert b"".join(turn.data for turn in turns) == PREFACE + ping + ping
    assert reader.has_received_goaway


def test_a_turn_has_few_frames() -> None:
    ping = PingFrame(0, b"12345678").serialize()
    turns = list(FrameReader().split_batches(PREFACE + ping * 1000))
    assert max(turn.control_frames for turn in turns) == 64


def test_a_budget_is_refilled_by_time_and_by_traffic() -> None:
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


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_writer_waits_for_room() -> None:
    async def check() -> None:
        buffer = SendBuffer()
        writing = asyncio.ensure_future(buffer.push(b"x" * 40_000))
        await _settled()
        assert await buffer.pop(0) == b""
        await _settled()
        assert not writing.done()
        assert len(await buffer.pop(30_000)) == 30_000
        await writing
        assert not buffer.complete
        draining = asyncio.ensure_future(buffer.drain())
        buffer.set_complete()
        await _settled()
        assert not draining.done()
        assert await buffer.pop(30_000) == b"x" * 10_000
        await draining
        assert buffer.complete

    asyncio.run(check())


def test_a_closed_buffer_lets_its_writers_go() -> None:
    async def check() -> None:
        buffer = SendBuffer()
        writing = asyncio.ensure_future(buffer.push(b"x" * 40_000))
        await _settled()
        await buffer.close()
        await writing
        await buffer.push(b"x" * 40_000)
        await buffer.drain()
        assert buffer.complete
        assert await buffer.pop(10) == b""

    asyncio.run(check())


@pytest.mark.parametrize("seed", range(5))
def test_bytes_come_out_as_they_went_in(seed: int) -> None:
    async def check() -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret
        pieces = [bytes([number]) * chance.randrange(50) for number in range(100)]
        buffer = SendBuffer()
        for piece in pieces:
            await buffer.push(piece)
        buffer.set_complete()
        received = b""
        while not buffer.complete:
            received += await buffer.pop(chance.randrange(70))
        assert received == b"".join(pieces)

    asyncio.run(check())
