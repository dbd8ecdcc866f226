"""A stream whose answer takes work first, without a network."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.acceptance import Acceptance
from anthropic_proxy.gateway.streams import deferred
from anthropic_proxy.gateway.streams.deferred import DeferredStream
from anthropic_proxy.gateway.streams.message_stream import EventListStream

OPENING: list[dict[str, Any]] = [{"type": "message_start"}, {"type": "ping"}]
REST: list[dict[str, Any]] = [{"type": "message_stop"}]

Work = Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, Any]]


@pytest.fixture(params=["START_TIMEOUT", "FIRST_CONTENT_SECONDS"])
def soon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The limit that is over at once; the other one never is."""
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0)
    limits = {"START_TIMEOUT": 3600, "FIRST_CONTENT_SECONDS": 3600, request.param: 0}
    for name, seconds in limits.items():
        monkeypatch.setattr(deferred, name, seconds)
    return str(request.param)


def run(
    work: Work, use: Callable[[DeferredStream, asyncio.Event], Awaitable[Any]], *, accepts: bool
) -> tuple[Any, Any]:
    """What `use` gives, and the failures that were told. `work` and `use` share an event."""
    seen: list[Exception] = []

    async def main() -> Any:
        accepted, go = Acceptance(), asyncio.Event()
        if accepts:
            accepted.set()
        stream = DeferredStream(work(go, accepted), lambda: OPENING, "req_1", seen.append, accepted)
        try:
            return await use(stream, go)
        finally:
            await stream.aclose()
            await stream.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(main()), seen


async def events_of(stream: DeferredStream) -> list[dict[str, Any]]:
    """Return the rest of a stream's events."""
    events = []
    async for batch in stream:
        for event in batch:
            assert isinstance(event, dict)
            events.append(event)
    return events


async def kinds(stream: DeferredStream) -> list[str]:
    return [event["type"] for event in await events_of(stream)]


@pytest.mark.parametrize("accepts", [False, True])
def test_quick_work_is_told_as_it_is(accepts: bool) -> None:
    async def work(*_: asyncio.Event) -> EventListStream:
        return EventListStream([*OPENING, *REST])

    async def use(stream: DeferredStream, _: asyncio.Event) -> list[str]:
        await stream.start()
        return await kinds(stream)

    told, _ = run(work, use, accepts=accepts)
    assert told == ["message_start", "ping", "message_stop"]


@pytest.mark.parametrize("accepts", [False, True])
def test_quick_failures_are_raised(accepts: bool) -> None:
    async def work(*_: asyncio.Event) -> None:
        await asyncio.sleep(0)
        raise ApiError(429, "slow down")

    async def use(stream: DeferredStream, _: asyncio.Event) -> None:
        await stream.start()

    with pytest.raises(ApiError, match="slow down"):
        run(work, use, accepts=accepts)


def test_slow_work_is_waited_for_until_it_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0)

    async def work(go: asyncio.Event, accepted: asyncio.Event) -> EventListStream:
        await asyncio.sleep(0)
        accepted.set()
        await go.wait()
        return EventListStream([*OPENING, *REST])

    async def use(stream: DeferredStream, go: asyncio.Event) -> list[str]:
        await stream.start()
        assert await anext(stream) == OPENING
        go.set()
        return await kinds(stream)

    assert run(work, use, accepts=False)[0] == ["message_stop"]


@pytest.mark.parametrize(
    ("failure", "told"),
    [(ApiError(429, "slow down"), "rate_limit_error"), (RuntimeError("a bug"), "api_error")],
)
def test_late_failures_are_events(soon: str, failure: Exception, told: str) -> None:
    async def work(go: asyncio.Event, _: asyncio.Event) -> None:
        await go.wait()
        raise failure

    async def use(stream: DeferredStream, go: asyncio.Event) -> list[dict[str, Any]]:
        await stream.start()
        assert await anext(stream) == OPENING
        assert await anext(stream) == [{"type": "ping"}]
        go.set()
        return await events_of(stream)

    events, seen = run(work, use, accepts=soon == "FIRST_CONTENT_SECONDS")
    assert [event["type"] for event in events if event["type"] != "ping"] == ["error"]
    assert events[-1]["error"]["type"] == told
    assert "bug" not in events[-1]["error"]["message"]
    assert seen == [failure]


def test_who_leaves_ends_the_work(soon: str) -> None:
    ended: list[bool] = []

    async def work(go: asyncio.Event, _: asyncio.Event) -> None:
        try:
            await go.wait()
        finally:
            ended.append(True)

    async def use(stream: DeferredStream, _: asyncio.Event) -> None:
        await stream.start()
        assert await anext(stream) == OPENING

    run(work, use, accepts=soon == "FIRST_CONTENT_SECONDS")
    assert ended == [True]


@pytest.mark.parametrize("accepts", [False, True])
def test_who_leaves_at_once_ends_the_work(accepts: bool) -> None:
    """Cancelled while it is not sure yet what to tell."""
    ended: list[bool] = []

    async def work(go: asyncio.Event, _: asyncio.Event) -> None:
        try:
            await go.wait()
        finally:
            ended.append(True)

    async def use(stream: DeferredStream, _: asyncio.Event) -> None:
        starting = asyncio.ensure_future(stream.start())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()

    run(work, use, accepts=accepts)
    assert ended == [True]


def test_who_leaves_before_the_result_is_read_leaves_the_result_too() -> None:
    async def work(go: asyncio.Event, _: asyncio.Event) -> EventListStream:
        go.set()
        return EventListStream(REST)

    async def use(stream: DeferredStream, go: asyncio.Event) -> list[str]:
        await go.wait()
        await stream.aclose()
        return await kinds(stream)

    assert run(work, use, accepts=False)[0] == []


def test_each_upstream_gets_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second upstream fails after the time of the first one, which is raised."""
    wait = asyncio.wait
    waits = 0

    async def main() -> None:
        accepted, go = Acceptance(), asyncio.Event()

        async def work() -> EventListStream:
            accepted.set()
            await go.wait()
            raise ApiError(529, "failed")

        async def fake_wait(tasks: set[asyncio.Task[Any]], **_: Any) -> Any:
            nonlocal waits
            waits += 1
            if waits > 1:
                go.set()
                return await wait(tasks)
            # The first upstream fails, and the next one accepts the request.
            accepted.clear()
            accepted.set()
            return set(), tasks

        monkeypatch.setattr(asyncio, "wait", fake_wait)
        stream = DeferredStream(work(), lambda: OPENING, "req_1", lambda _: None, accepted)
        with pytest.raises(ApiError, match="failed"):
            await stream.start()

    asyncio.run(main())
