"""The end of a server process under load: on both protocols, with one worker and with several."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_command import REQUEST, Command, Running, refuses_connections, until
from tests.scripted_upstream import DEADLINE, Pause, ScriptedUpstream, streams, text_chunks

STREAM = REQUEST | {"stream": True}
COMPLETE = b"event: message_stop\n"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def paused(upstream: ScriptedUpstream) -> Iterator[Pause]:
    """Set `go` to let all answers of `upstream` go on that were begun."""
    pause = Pause()
    yield pause
    pause.go.set()


def _answers(upstream: ScriptedUpstream, pause: Pause, count: int) -> None:
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(*(streams([first, pause, *rest]) for _ in range(count)))


class Streams:
    """Streams of one client, begun and read on until something ends them."""

    def __init__(self, address: str, *, http2: bool) -> None:
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(http1=not http2, http2=http2, limits=limits, timeout=DEADLINE, trust_env=False)
        self._address = address
        self._begun = 0
        self._all_begun = asyncio.Event()

    async def read(self, count: int, meanwhile: AsyncIterator[None]) -> list[bytes]:
        """What came of each, complete or not, when `meanwhile` was gone on with after all had begun."""
        async with self._client:
            reading = [asyncio.ensure_future(self._read(count)) for _ in range(count)]
            async with asyncio.timeout(DEADLINE):
                await self._all_begun.wait()
                async for _ in meanwhile:
                    pass
                return await asyncio.gather(*reading)

    async def _read(self, count: int) -> bytes:
        received = b""
        with contextlib.suppress(httpx.RemoteProtocolError):  # one that was cut ends with what came of it
            async with self._client.stream("POST", f"{self._address}/v1/messages", json=STREAM) as response:
                async for data in response.aiter_bytes():
                    self._begun += not received
                    received += data
                    if self._begun == count:
                        self._all_begun.set()
        return received


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_a_hundred_streams_end_well(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _answers(upstream, paused, 100)

    async def terminate(server: Running) -> AsyncIterator[None]:
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: refuses_connections(server.address), "no more is accepted")
        paused.go.set()
        yield

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server:
        received = asyncio.run(Streams(server.address, http2=protocol == "http/2").read(100, terminate(server)))
        assert server.process.wait(DEADLINE) == 0
    assert [data for data in received if COMPLETE not in data] == []


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_what_is_open_when_the_time_is_over_is_told(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _answers(upstream, paused, 3)

    async def terminate(server: Running) -> AsyncIterator[None]:
        server.process.send_signal(signal.SIGTERM)
        yield

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers, DRAIN_TIMEOUT="0.1") as server:
        received = asyncio.run(Streams(server.address, http2=protocol == "http/2").read(3, terminate(server)))
        assert server.process.wait(DEADLINE) == 0
    for data in received:
        assert re.search(rb'event: error\ndata: .*"overloaded_error".*stopping.*"request_id":"req_\w+"', data)
        assert data.endswith(b"\n\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_at_once(command: Command, upstream: ScriptedUpstream, paused: Pause, workers: str) -> None:
    _answers(upstream, paused, 1)
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server,
        httpx.stream("POST", f"{server.address}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False) as response,
    ):
        received = response.iter_bytes()
        next(received)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        with pytest.raises(httpx.RemoteProtocolError):
            b"".join(received)


def test_a_request_on_an_open_connection_is_answered_and_the_connection_closed(
    command: Command, upstream: ScriptedUpstream, paused: Pause
) -> None:
    _answers(upstream, paused, 1)
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url) as server,
        httpx.Client(base_url=server.address, timeout=DEADLINE, trust_env=False) as probing,
        httpx.stream("POST", f"{server.address}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False) as response,
    ):
        received = response.iter_bytes()
        next(received)
        assert probing.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        assert probing.get("/readyz").status_code == 503
        missing = probing.get("/v1/nothing")
        assert (missing.status_code, missing.headers["connection"]) == (404, "close")
        paused.go.set()
        assert COMPLETE in b"".join(received)
        assert server.process.wait(DEADLINE) == 0


def _workers(server: Running) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_worker_is_replaced_and_the_others_go_on(
    command: Command, upstream: ScriptedUpstream, paused: Pause
) -> None:
    _answers(upstream, paused, 8)

    async def kill(server: Running) -> AsyncIterator[None]:
        before = _workers(server)
        os.kill(before[0], signal.SIGKILL)
        await asyncio.to_thread(until, lambda: set(_workers(server)) - set(before), "it is replaced")
        paused.go.set()
        yield

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        received = asyncio.run(Streams(server.address, http2=False).read(8, kill(server)))
        code, log = server.end()
    assert code == 0
    # Which worker got which connection is the system's choice: at worst all eight were the killed one's.
    assert all(data.startswith(b"event: message_start") for data in received)
    assert "worker died, another one is started" in log


def test_the_workers_end_with_the_first_process(command: Command, upstream: ScriptedUpstream) -> None:
    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        server.process.kill()
        until(lambda: refuses_connections(server.address), "nobody listens")


def test_a_worker_ends_with_a_first_process_that_never_heard_of_it(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """What the worker told is not read: then the socket is not at its end, but in error."""
    script = """
import os, signal, socket, sys
from anthropic_proxy.config import Settings
from anthropic_proxy.serve import Listeners, _work
from anthropic_proxy.listening import listen

settings = Settings(_env_file=None, UPSTREAM_BASE_URL=sys.argv[1], UPSTREAM_DIALECT="generic")
ours, theirs = socket.socketpair()
if os.fork():
    theirs.close()
    ours.recv(1, socket.MSG_PEEK)
    os.kill(os.getpid(), signal.SIGKILL)
ours.close()
_work(settings, Listeners(listen("127.0.0.1", 0)), None, theirs)
"""
    # The pipe ends when all who may write to it have ended.
    done = subprocess.run(
        [sys.executable, "-c", script, upstream.url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert "stopping" in done.stdout
