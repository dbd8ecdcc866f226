"""A server in the test's event loop that plays a script for each connection, kept alive or not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from enum import Enum
from typing import Any


class Action(Enum):
    """What a script does besides sending bytes."""

    READ = "READ"  # a request is read
    STALL = "STALL"  # nothing more happens
    RESET = "RESET"  # the connection is cut without an end
    NEXT = "NEXT"  # waits for `RawServer.go`


READ, STALL, RESET, NEXT = Action

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class RawServer:
    """Counts its `requests` and `connections`, and closes a connection after its script."""

    def __init__(self, scripts: Iterable[Iterable[Any]]) -> None:
        self.requests = 0
        self.connections = 0
        self.url = ""
        self._scripts = iter(scripts)
        self._go: asyncio.Queue[None] = asyncio.Queue()
        self._over = asyncio.Event()
        self._serving: list[asyncio.Task[None]] = []

    def go(self) -> None:
        """Let one `NEXT` pass."""
        self._go.put_nowait(None)

    @contextlib.asynccontextmanager
    async def running(self, scheme: str = "http") -> AsyncIterator["RawServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            yield self
        finally:
            server.close()
            self._over.set()
            for _ in self._serving:
                self.go()
            await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None, "no task runs this"
        self._serving.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for step in next(self._scripts):
                await self._do(step, reader, writer)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def _do(
        self, step: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if step is READ:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    line[15:]
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                b"0",
            )
            await reader.readexactly(int(length))
            self.requests += 1
        elif step is STALL:
            await self._over.wait()
        elif step is RESET:
            writer.transport.abort()
        elif step is NEXT and not self._over.is_set():
            await self._go.get()
        elif isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
