"""Clients that cost as little as they can: raw protocols. A task comes as a line of JSON on standard input, what was seen
goes as JSON to standard output. The kinds of tasks are in `TASKS`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

# Connections that are opened at a time.
_AT_ONCE = 100
_PATIENCE = 120
_LAST_CHUNK = b"0\r\n\r\n"
# What a stream has among its last bytes when all of it has come, in either protocol.
_COMPLETE = (b"message_stop", b"[DONE]")
_LAST_BYTES = 200


class Exchange(asyncio.Protocol):
    """A connection on which requests are sent, one after the other. `ask` gives the seconds to the first piece of the
    answer's content and to its end. Raises ConnectionError for what is no whole answer.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[tuple[float, float]] | None = None
        self.began: asyncio.Future[None] = self._loop.create_future()
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> "asyncio.Future[tuple[float, float]]":
        self._done = self._loop.create_future()
        self._head = b""
        self._left: int | None = None
        self._first = 0.0
        self._tail = b""
        self._began = time.perf_counter()
        self._transport.write(self._request)
        return self._done

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 200 " not in head.split(b"\r\n")[0]:
                self._failed(self._head)
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
            # A stream has none.
            self._left = int(length) if length else -1
            data = body
        self.events += data.count(b"data: ")
        if not self._first and b"delta" in data:
            self._first = time.perf_counter()
            if not self.began.done():
                self.began.set_result(None)
        if self._left >= 0:
            self._left -= len(data)
            if self._left == 0:
                self._ended()
            return
        self._tail = (self._tail + data)[-_LAST_BYTES:]
        if self._tail.endswith(_LAST_CHUNK):
            if any(each in self._tail for each in _COMPLETE):
                self._ended()
            else:
                self._failed(b"the stream broke off: " + self._tail)

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(f"the connection was closed: {exc}".encode())

    def close(self) -> None:
        self._transport.close()

    def _ended(self) -> None:
        if self._done and not self._done.done():
            now = time.perf_counter()
            self._done.set_result(((self._first or now) - self._began, now - self._began))

    def _failed(self, what: bytes) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(ConnectionError(what[:500].decode("utf-8", "replace")))


async def _opened(task: dict[str, Any], count: int) -> list[Exchange]:
    url = urlsplit(task["url"])
    body = task["body"].encode()
    fields = f"host: {url.netloc}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    head = f"POST {url.path} HTTP/1.1\r\n{fields}"
    made: list[Exchange] = []

    async def connect() -> None:
        _, each = await asyncio.get_running_loop().create_connection(
            lambda: Exchange(head.encode() + body), url.hostname, url.port
        )
        made.append(each)

    for begin in range(0, count, _AT_ONCE):
        await asyncio.gather(*(connect() for _ in range(min(_AT_ONCE, count - begin))))
    return made


async def _streams(task: dict[str, Any]) -> dict[str, Any]:
    """So many streams at a time, each read to its end."""
    made = await _opened(task, task["clients"])
    times = await asyncio.wait_for(asyncio.gather(*(each.ask() for each in made)), _PATIENCE)
    return {"first": [first for first, _ in times]}


async def _requests(task: dict[str, Any]) -> dict[str, Any]:
    """So many clients that ask again and again, for so many seconds, or so many times all together."""
    made = await _opened(task, task["clients"])
    ends = time.perf_counter() + task.get("seconds", _PATIENCE)
    left = task.get("requests", 10**9)
    seen: list[tuple[float, float]] = []

    async def client(each: Exchange) -> None:
        nonlocal left
        while time.perf_counter() < ends and left > 0:
            left -= 1
            seen.append(await asyncio.wait_for(each.ask(), _PATIENCE))

    begun = time.perf_counter()
    await asyncio.gather(*map(client, made))
    return {
        "seconds": time.perf_counter() - begun,
        "first": [first for first, _ in seen],
        "whole": [whole for _, whole in seen],
    }


async def _hold(task: dict[str, Any]) -> dict[str, Any]:
    """Streams that stay open until this process is ended; says so when all have begun, and for each line that it reads then
    how many events have come.
    """
    made = await _opened(task, task["clients"])
    asked = []
    for begin in range(0, len(made), _AT_ONCE):
        some = made[begin : begin + _AT_ONCE]
        asked += [each.ask() for each in some]
        await asyncio.wait_for(asyncio.gather(*(each.began for each in some)), _PATIENCE)
    print("open", flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, _tell_events, made)
    await asyncio.gather(*asked)
    return {}


def _tell_events(made: list[Exchange]) -> None:
    sys.stdin.readline()
    print(sum(each.events for each in made), flush=True)


TASKS: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "streams": _streams,
    "requests": _requests,
    "hold": _hold,
}


async def _main() -> None:
    task = json.loads(sys.stdin.readline())
    begun, cpu = time.perf_counter(), time.process_time()
    result = await TASKS[task["kind"]](task)
    print(
        json.dumps(
            {**result, "wall": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        )
    )


if __name__ == "__main__":
    uvloop.run(_main())
