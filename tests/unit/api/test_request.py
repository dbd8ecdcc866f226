"""Requests through ASGI: headers, bodies, and clients that disconnect."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anthropic_proxy.api.asgi import OBSERVATION, Message, Receive
from anthropic_proxy.api.request import (
    MAX_BODY_BYTES,
    CallerDisconnectedError,
    CancelOnDisconnect,
    Request,
)
from anthropic_proxy.api.response import Response
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.observation import Observation

DISCONNECT = {"type": "http.disconnect"}


def build_request(**headers: str) -> Request:
    lines = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    state = {OBSERVATION: Observation("POST", "/v1/messages")}
    return Request(
        {"method": "POST", "headers": lines, "query_string": b"beta=true", "state": state}
    )


def body_message(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def receive_from(*messages: Message) -> Receive:
    """Return a receive function that returns the messages and then waits."""
    remaining = list(messages)

    async def receive() -> Message:
        if not remaining:
            await asyncio.Event().wait()
        return remaining.pop(0)

    return receive


def test_repeated_headers_are_combined() -> None:
    lines = [
        (b"Anthropic-Beta", b"a"),
        (b"x-name", "é".encode("latin-1")),
        (b"anthropic-beta", b"b"),
    ]
    state = {OBSERVATION: Observation("POST", "/")}
    caller = Request(
        {"method": "POST", "headers": lines, "query_string": b"beta=true", "state": state}
    ).caller
    assert (caller.headers, caller.query) == (
        {"anthropic-beta": "a, b", "x-name": "é"},
        "beta=true",
    )


def test_a_body_is_returned_once() -> None:
    request = build_request()
    asyncio.run(
        request.read(
            receive_from(body_message(b"one ", more=True), body_message(b"two", more=False)), 5
        )
    )
    assert (request.take_body(), request.take_body()) == (b"one two", b"")


_HALF = b"x" * (MAX_BODY_BYTES // 2 + 1)


@pytest.mark.parametrize(
    ("headers", "messages", "seconds", "status"),
    [
        ({"content_length": str(MAX_BODY_BYTES + 1)}, [], 5, 413),
        ({}, [body_message(_HALF, more=True), body_message(_HALF, more=True)], 5, 413),
        ({"content_length": "nonsense"}, [body_message(b"{", more=True)], 0.01, 408),
        ({"content_encoding": "GZIP"}, [], 5, 400),
    ],
    ids=["declared-too-large", "too-large", "incomplete", "compressed"],
)
def test_invalid_bodies_are_rejected(
    headers: dict[str, str], messages: list[Message], seconds: float, status: int
) -> None:
    with pytest.raises(ApiError) as error:
        asyncio.run(build_request(**headers).read(receive_from(*messages), seconds))
    assert error.value.status == status


def test_a_disconnect_within_the_body_is_raised() -> None:
    with pytest.raises(CallerDisconnectedError):
        asyncio.run(
            build_request().read(receive_from(body_message(b"{", more=True), DISCONNECT), 5)
        )


async def _run_until_disconnect(receive: Receive, block: Callable[[], Awaitable[Any]]) -> str:
    async with CancelOnDisconnect(receive):
        await block()
        return "done"
    return "cancelled"


def test_work_is_cancelled_when_its_client_disconnects() -> None:
    """Messages before the disconnect are dropped."""
    receive = receive_from(
        body_message(b"rest", more=True), body_message(b"", more=False), DISCONNECT
    )
    assert asyncio.run(_run_until_disconnect(receive, asyncio.Event().wait)) == "cancelled"


def test_completed_work_leaves_no_task() -> None:
    async def main() -> None:
        assert await _run_until_disconnect(receive_from(), lambda: asyncio.sleep(0)) == "done"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_errors_of_the_work_are_raised() -> None:
    async def fails() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        asyncio.run(_run_until_disconnect(receive_from(), fails))


@pytest.mark.parametrize(
    "messages", [[], [DISCONNECT]], ids=["client-connected", "client-disconnected"]
)
def test_another_cancellation_is_raised(messages: list[Message]) -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def work() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(_run_until_disconnect(receive_from(*messages), work))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("value", ["plain", "é", "名"])
def test_response_headers_are_forwarded_unchanged(value: str) -> None:
    """A passthrough upstream may send any headers; httpx decodes them as UTF-8 if possible."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Response(200, {"x-name": value}, b"{}").send(send))
    assert sent[0]["headers"] == [(b"x-name", value.encode()), (b"content-length", b"2")]
    assert sent[1] == {"type": "http.response.body", "body": b"{}", "more_body": False}
