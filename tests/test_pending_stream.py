"""A stream whose answer takes work first, without a network."""

import asyncio
from typing import Any

import pytest

from anthropic_proxy import pending_stream
from anthropic_proxy.errors import ApiError
from anthropic_proxy.pending_stream import PendingStream

OPENING: list[dict[str, Any]] = [{"type": "message_start"}, {"type": "ping"}]
REST: list[dict[str, Any]] = [{"type": "message_stop"}]


async def events_of(stream: PendingStream) -> list[str]:
    return [event["type"] async for batch in stream for event in batch]


def pending(work: Any, seen: list[Exception] | None = None) -> PendingStream:
    return PendingStream(work, lambda: OPENING, "req_1", (seen if seen is not None else []).append)


def test_quick_work_is_told_as_it_is() -> None:
    async def work() -> list[dict[str, Any]]:
        return [*OPENING, *REST]

    async def main() -> list[str]:
        stream = pending(work())
        await stream.start()
        kinds = await events_of(stream)
        await stream.aclose()
        return kinds

    assert asyncio.run(main()) == ["message_start", "ping", "message_stop"]


def test_quick_failures_are_raised() -> None:
    async def work() -> list[dict[str, Any]]:
        raise ApiError(429, "slow down")

    async def main() -> None:
        stream = pending(work())
        with pytest.raises(ApiError, match="slow down"):
            await stream.start()
        await stream.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "told"),
    [(ApiError(429, "slow down"), "rate_limit_error"), (RuntimeError("a bug"), "api_error")],
)
def test_late_failures_are_events(monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str) -> None:
    monkeypatch.setattr(pending_stream, "SILENCE", 0)
    seen: list[Exception] = []

    async def main() -> list[dict[str, Any]]:
        go = asyncio.Event()

        async def work() -> list[dict[str, Any]]:
            await go.wait()
            raise failure

        stream = pending(work(), seen)
        await stream.start()
        assert await anext(stream) == OPENING
        assert await anext(stream) == [{"type": "ping"}]
        go.set()
        events = [event async for batch in stream for event in batch]
        await stream.aclose()
        return events

    events = asyncio.run(main())
    assert [event["type"] for event in events if event["type"] != "ping"] == ["error"]
    assert events[-1]["error"]["type"] == told
    assert "bug" not in events[-1]["error"]["message"]
    assert seen == [failure]


def test_who_leaves_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_stream, "SILENCE", 0)
    ended: list[bool] = []

    async def work() -> list[dict[str, Any]]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return []

    async def main() -> None:
        stream = pending(work())
        await stream.start()
        assert await anext(stream) == OPENING
        await stream.aclose()

    asyncio.run(main())
    assert ended == [True]


def test_who_leaves_before_the_result_is_read_leaves_the_result_too() -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def work() -> list[dict[str, Any]]:
            done.set()
            return REST

        stream = pending(work())
        await done.wait()
        await stream.aclose()
        assert await events_of(stream) == []

    asyncio.run(main())
