"""Servers for rate limits: a real Redis, and one that accepts connections and never replies."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.running_command import until


@dataclass(frozen=True)
class Redis:
    """A running redis-server."""

    url: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def running_redis(directory: Path) -> Iterator[Redis]:
    """Run a Redis whose socket is in `directory`. Skips the test where it is not installed."""
    command = shutil.which("redis-server")
    if command is None:
        pytest.skip("redis-server is not installed")
    path = directory / "socket"
    arguments = [command, "--port", "0", "--unixsocket", path, "--save", "", "--daemonize", "no"]
    process = subprocess.Popen([*map(str, arguments)], stdout=subprocess.DEVNULL, cwd=path.parent)
    try:
        until(lambda: _listens(path), "redis-server listens")
        yield Redis(f"redis+unix://{path}", process)
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as each:
        return each.connect_ex(str(path)) == 0


@dataclass
class Silent:
    """A server that reads and never replies. connections: how many it has accepted."""

    port: int = 0
    connections: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[Silent]:
    silent = Silent()
    server = await asyncio.start_server(silent.accept, "127.0.0.1", 0)
    silent.port = server.sockets[0].getsockname()[1]
    try:
        yield silent
    finally:
        server.close()
        silent.close()
