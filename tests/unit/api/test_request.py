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

LEFT = {"type": "http.disconnect"}


def request(**headers: str) -> Request:
    lines = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    state = {OBSERVATION: Observation("POST", "/v1/messages")}
    return Request(
        {"method": "POST", "headers": lines, "query_string": b"beta=true", "state": state}
    )


def piece(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def client(*messages: Message) -> Receive:
    """Sends messages, and then waits."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def test_lines_of_one_header_are_one_list() -> None:
    lines = [
        (b"Anthropic-Beta", b"a"),
        (b"x-name", "é".encode("latin-1")),
        (b"anthropic-beta", b"b"),
    ]
    state = {OBSERVATION: Observation("POST", "/")}
    made = Request(
        {"method": "POST", "headers": lines, "query_string": b"beta=true", "state": state}
    ).caller
    assert (made.headers, made.query) == ({"anthropic-beta": "a, b", "x-name": "é"}, "beta=true")


def test_a_body_is_returned_once() -> None:
    asked = request()
    asyncio.run(asked.read(client(piece(b"one ", more=True), piece(b"two", more=False)), 5))
    assert (asked.take_body(), asked.take_body()) == (b"one two", b"")


_HALF = b"x" * (MAX_BODY_BYTES // 2 + 1)


@pytest.mark.parametrize(
    ("headers", "messages", "seconds", "status"),
    [
        ({"content_length": str(MAX_BODY_BYTES + 1)}, [], 5, 413),
        ({}, [piece(_HALF, more=True), piece(_HALF, more=True)], 5, 413),
        ({"content_length": "nonsense"}, [piece(b"{", more=True)], 0.01, 408),
        ({"content_encoding": "GZIP"}, [], 5, 400),
    ],
    ids=["told to be too large", "too large", "half a body", "compressed"],
)
def test_bodies_that_are_refused(
    headers: dict[str, str], messages: list[Message], seconds: float, status: int
) -> None:
    with pytest.raises(ApiError) as told:
        asyncio.run(request(**headers).read(client(*messages), seconds))
    assert told.value.status == status


def test_a_client_that_disconnects_within_its_body() -> None:
    with pytest.raises(CallerDisconnectedError):
        asyncio.run(request().read(client(piece(b"{", more=True), LEFT), 5))


async def _attended(receive: Receive, block: Callable[[], Awaitable[Any]]) -> str:
    async with CancelOnDisconnect(receive):
        await block()
        return "done"
    return "cancelled"


def test_work_is_cancelled_when_its_client_disconnects() -> None:
    """Messages that it sends before are dropped."""
    sent = client(piece(b"rest", more=True), piece(b"", more=False), LEFT)
    assert asyncio.run(_attended(sent, asyncio.Event().wait)) == "cancelled"


def test_no_task_is_left_when_the_work_is_done() -> None:
    async def main() -> None:
        assert await _attended(client(), lambda: asyncio.sleep(0)) == "done"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_errors_of_the_work_are_raised() -> None:
    async def fails() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        asyncio.run(_attended(client(), fails))


@pytest.mark.parametrize(
    "messages", [[], [LEFT]], ids=["the client stays", "the client leaves as well"]
)
def test_another_cancellation_is_raised(messages: list[Message]) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(_attended(client(*messages), work))
        await begun.wait()
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
