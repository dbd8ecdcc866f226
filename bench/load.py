"""Load generator with little overhead, based on asyncio protocols.

It reads a task as a line of JSON from standard input, and writes the results as JSON to standard
output. `TASKS` contains the kinds of tasks.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

# Connections that are opened concurrently.
_AT_ONCE = 100
_TIMEOUT = 120
_LAST_CHUNK = b"0\r\n\r\n"
# Markers in the last bytes of a complete stream, in both APIs.
_COMPLETE = (b"message_stop", b"[DONE]")
_LAST_BYTES = 200


class Exchange(asyncio.Protocol):
    """A connection that sends one request at a time.

    `send` returns a future with the seconds to the first content of the response and to its end.
    The future raises ConnectionError if the response is incomplete.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._timings: asyncio.Future[tuple[float, float]] | None = None
        self.first_event: asyncio.Future[None] = self._loop.create_future()
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> "asyncio.Future[tuple[float, float]]":
        self._timings = self._loop.create_future()
        self._head = b""
        self._remaining: int | None = None
        self._first_content_at = 0.0
        self._tail = b""
        self._started_at = time.perf_counter()
        self._transport.write(self._request)
        return self._timings

    def data_received(self, data: bytes) -> None:
        if self._remaining is None:
            self._head += data
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 200 " not in head.split(b"\r\n")[0]:
                self._fail(self._head)
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
            # A stream has no content-length.
            self._remaining = int(length) if length else -1
            data = body
        self.events += data.count(b"data: ")
        if not self._first_content_at and b"delta" in data:
            self._first_content_at = time.perf_counter()
            if not self.first_event.done():
                self.first_event.set_result(None)
        if self._remaining >= 0:
            self._remaining -= len(data)
            if self._remaining == 0:
                self._finish()
            return
        self._tail = (self._tail + data)[-_LAST_BYTES:]
        if self._tail.endswith(_LAST_CHUNK):
            if any(each in self._tail for each in _COMPLETE):
                self._finish()
            else:
                self._fail(b"the stream is incomplete: " + self._tail)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}".encode())

    def close(self) -> None:
        self._transport.close()

    def _finish(self) -> None:
        if self._timings and not self._timings.done():
            now = time.perf_counter()
            self._timings.set_result(
                ((self._first_content_at or now) - self._started_at, now - self._started_at)
            )

    def _fail(self, reason: bytes) -> None:
        if self._timings and not self._timings.done():
            self._timings.set_exception(ConnectionError(reason[:500].decode("utf-8", "replace")))


async def _open_exchanges(task: dict[str, Any], count: int) -> list[Exchange]:
    url = urlsplit(task["url"])
    body = task["body"].encode()
    length = f"content-length: {len(body)}"
    fields = f"host: {url.netloc}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    head = f"POST {url.path} HTTP/1.1\r\n{fields}"
    exchanges: list[Exchange] = []

    async def connect() -> None:
        _, exchange = await asyncio.get_running_loop().create_connection(
            lambda: Exchange(head.encode() + body), url.hostname, url.port
        )
        exchanges.append(exchange)

    for begin in range(0, count, _AT_ONCE):
        await asyncio.gather(*(connect() for _ in range(min(_AT_ONCE, count - begin))))
    return exchanges


async def _run_streams(task: dict[str, Any]) -> dict[str, Any]:
    """Read `clients` concurrent streams to their ends."""
    exchanges = await _open_exchanges(task, task["clients"])
    times = await asyncio.wait_for(
        asyncio.gather(*(exchange.send() for exchange in exchanges)), _TIMEOUT
    )
    return {"first": [first for first, _ in times]}


async def _run_requests(task: dict[str, Any]) -> dict[str, Any]:
    """Repeat a request with `clients` clients, for `seconds` or a total of `requests`."""
    exchanges = await _open_exchanges(task, task["clients"])
    deadline = time.perf_counter() + task.get("seconds", _TIMEOUT)
    remaining = task.get("requests", 10**9)
    timings: list[tuple[float, float]] = []

    async def run_client(exchange: Exchange) -> None:
        nonlocal remaining
        while time.perf_counter() < deadline and remaining > 0:
            remaining -= 1
            timings.append(await asyncio.wait_for(exchange.send(), _TIMEOUT))

    started_at = time.perf_counter()
    await asyncio.gather(*map(run_client, exchanges))
    return {
        "seconds": time.perf_counter() - started_at,
        "first": [first for first, _ in timings],
        "whole": [whole for _, whole in timings],
    }


async def _hold_streams(task: dict[str, Any]) -> dict[str, Any]:
    """Hold `clients` streams open until this process is killed.

    Print `open` when all streams have started, and for each line of input the number of events so
    far.
    """
    exchanges = await _open_exchanges(task, task["clients"])
    responses = []
    for begin in range(0, len(exchanges), _AT_ONCE):
        batch = exchanges[begin : begin + _AT_ONCE]
        responses += [exchange.send() for exchange in batch]
        await asyncio.wait_for(
            asyncio.gather(*(exchange.first_event for exchange in batch)), _TIMEOUT
        )
    print("open", flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, _print_event_count, exchanges)
    await asyncio.gather(*responses)
    return {}


def _print_event_count(exchanges: list[Exchange]) -> None:
    sys.stdin.readline()
    print(sum(exchange.events for exchange in exchanges), flush=True)


TASKS: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "streams": _run_streams,
    "requests": _run_requests,
    "hold": _hold_streams,
}


async def _main() -> None:
    task = json.loads(sys.stdin.readline())
    started_at, cpu = time.perf_counter(), time.process_time()
    result = await TASKS[task["kind"]](task)
    print(
        json.dumps(
            {**result, "wall": time.perf_counter() - started_at, "cpu": time.process_time() - cpu}
        )
    )


if __name__ == "__main__":
    uvloop.run(_main())
