"""The end of a server process under load: on both protocols, with one worker and with several."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.http2_client import Http2Client
from tests.support.running_command import REQUEST, Command, Running, refuses_connections, until
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    Script,
    ScriptedUpstream,
    streams,
    text_chunks,
)

STREAM = REQUEST | {"stream": True}
COMPLETE = b"event: message_stop\n"
STOPPING_EVENT = re.compile(
    rb'event: error\ndata: .*"overloaded_error".*stopping.*"request_id":"req_\w+"'
)


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


Meanwhile = Callable[[], None]


async def _http1_streams(address: str, count: int, meanwhile: Meanwhile) -> list[bytes]:
    """Begin streams on separate connections. Return the bytes of each, complete or not.

    `meanwhile` runs when all have begun.
    """
    has_begun = [asyncio.Event() for _ in range(count)]
    limits = httpx.Limits(max_connections=None)

    async def read(client: httpx.AsyncClient, begun: asyncio.Event) -> bytes:
        received = b""
        with contextlib.suppress(
            httpx.RemoteProtocolError
        ):  # a stream that was cut ends with what came of it
            async with client.stream("POST", f"{address}/v1/messages", json=STREAM) as response:
                async for data in response.aiter_bytes():
                    received += data
                    begun.set()
        return received

    async with (
        httpx.AsyncClient(limits=limits, timeout=DEADLINE, trust_env=False) as client,
        asyncio.timeout(DEADLINE),
    ):
        reading = [asyncio.ensure_future(read(client, begun)) for begun in has_begun]
        for begun in has_begun:
            await begun.wait()
        await asyncio.to_thread(meanwhile)
        return await asyncio.gather(*reading)


def _http2_streams(address: str, count: int, meanwhile: Meanwhile) -> list[bytes]:
    """As `_http1_streams`, on one connection."""
    with Http2Client(address) as client:
        streams = [
            client.request("POST", "/v1/messages", json.dumps(STREAM).encode())
            for _ in range(count)
        ]
        client.read_until(lambda each: all(map(each.body, streams)))
        meanwhile()
        client.read_until(lambda each: all(map(each.has_ended, streams)))
        return [client.body(stream) for stream in streams]


def _streams(address: str, protocol: str, count: int, meanwhile: Meanwhile) -> list[bytes]:
    if protocol == "http/2":
        return _http2_streams(address, count, meanwhile)
    return asyncio.run(_http1_streams(address, count, meanwhile))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_a_hundred_streams_end_well(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _answers(upstream, paused, 100)

    def terminate() -> None:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        paused.go.set()

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server:
        received = _streams(server.address, protocol, 100, terminate)
        assert server.process.wait(DEADLINE) == 0
    assert [data for data in received if COMPLETE not in data] == []


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_what_is_open_when_the_time_is_over_is_told(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _answers(upstream, paused, 3)
    with command.serving(
        UPSTREAM_BASE_URL=upstream.url, WORKERS=workers, DRAIN_TIMEOUT="0.1"
    ) as server:
        received = _streams(
            server.address, protocol, 3, lambda: server.process.send_signal(signal.SIGTERM)
        )
        assert server.process.wait(DEADLINE) == 0
    for data in received:
        assert STOPPING_EVENT.search(data)
        assert data.endswith(b"\n\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_at_once(
    command: Command, upstream: ScriptedUpstream, paused: Pause, workers: str
) -> None:
    _answers(upstream, paused, 1)
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server,
        httpx.stream(
            "POST", f"{server.address}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
        ) as response,
    ):
        received = response.iter_bytes()
        next(received)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        assert STOPPING_EVENT.search(b"".join(received))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_a_request_without_a_response(
    command: Command, upstream: ScriptedUpstream, workers: str
) -> None:
    pause = Pause()
    upstream.then(Script(None, [pause]))
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        url = f"{server.address}/v1/messages"
        response = pool.submit(httpx.post, url, json=REQUEST, timeout=DEADLINE, trust_env=False)
        assert pause.reached.wait(DEADLINE)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        received = response.result(DEADLINE)
        pause.go.set()
    assert (received.status_code, received.json()["error"]["type"]) == (529, "overloaded_error")
    assert "stopping" in received.json()["error"]["message"]


def test_a_request_on_an_open_connection_is_answered_and_the_connection_closed(
    command: Command, upstream: ScriptedUpstream, paused: Pause
) -> None:
    _answers(upstream, paused, 1)
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url) as server,
        httpx.Client(base_url=server.address, timeout=DEADLINE, trust_env=False) as probing,
        httpx.stream(
            "POST", f"{server.address}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
        ) as response,
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

    def kill() -> None:
        before = _workers(server)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: set(_workers(server)) - set(before), "it is replaced")
        paused.go.set()

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        received = _streams(server.address, "http/1.1", 8, kill)
        code, log = server.end()
    assert code == 0
    # The system assigns connections to workers: at worst the killed one had all eight.
    assert all(data.startswith(b"event: message_start") for data in received)
    assert "worker exited" in log


def test_the_workers_end_with_the_first_process(
    command: Command, upstream: ScriptedUpstream
) -> None:
    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        server.process.kill()
        until(lambda: refuses_connections(server.address), "nobody listens")


def test_a_worker_ends_with_a_first_process_that_never_heard_of_it(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """What the worker told is not read: then the socket is not at its end, but in error."""
    script = """
import os, signal, socket, sys
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.server.main import Listeners, ServerControl, _run_worker
from anthropic_proxy.server.sockets import open_tcp_listener

settings = Settings(_env_file=None, UPSTREAM_BASE_URL=sys.argv[1], UPSTREAM_PROVIDER="generic")
ours, theirs = socket.socketpair()
if os.fork():
    theirs.close()
    ours.recv(1, socket.MSG_PEEK)
    os.kill(os.getpid(), signal.SIGKILL)
ours.close()
_run_worker(
    settings, Listeners(open_tcp_listener("127.0.0.1", 0)), ServerControl(), theirs, None
)
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
