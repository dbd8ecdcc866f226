"""Shutdown of a server under load: HTTP/1.1 and HTTP/2, with one and with several workers."""

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
    """Yield a pause of all responses of `upstream`; setting `go` continues them."""
    pause = Pause()
    yield pause
    pause.go.set()


def _script_paused_streams(upstream: ScriptedUpstream, pause: Pause, count: int) -> None:
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(*(streams([first, pause, *rest]) for _ in range(count)))


Callback = Callable[[], None]


async def _http1_streams(address: str, count: int, on_started: Callback) -> list[bytes]:
    """Start streams on separate connections and return the received bytes of each.

    `on_started` runs when all streams have started.
    """
    started_events = [asyncio.Event() for _ in range(count)]
    limits = httpx.Limits(max_connections=None)

    async def read(client: httpx.AsyncClient, started: asyncio.Event) -> bytes:
        received = b""
        # An interrupted stream returns the bytes before the interruption.
        with contextlib.suppress(httpx.RemoteProtocolError):
            async with client.stream("POST", f"{address}/v1/messages", json=STREAM) as response:
                async for data in response.aiter_bytes():
                    received += data
                    started.set()
        return received

    async with (
        httpx.AsyncClient(limits=limits, timeout=DEADLINE, trust_env=False) as client,
        asyncio.timeout(DEADLINE),
    ):
        readers = [asyncio.ensure_future(read(client, started)) for started in started_events]
        for started in started_events:
            await started.wait()
        await asyncio.to_thread(on_started)
        return await asyncio.gather(*readers)


def _http2_streams(address: str, count: int, on_started: Callback) -> list[bytes]:
    """Start streams on one HTTP/2 connection, as `_http1_streams` does."""
    with Http2Client(address) as client:
        streams = [
            client.request("POST", "/v1/messages", json.dumps(STREAM).encode())
            for _ in range(count)
        ]
        client.read_until(lambda each: all(map(each.body, streams)))
        on_started()
        client.read_until(lambda each: all(map(each.has_ended, streams)))
        return [client.body(stream) for stream in streams]


def _streams(address: str, protocol: str, count: int, on_started: Callback) -> list[bytes]:
    if protocol == "http/2":
        return _http2_streams(address, count, on_started)
    return asyncio.run(_http1_streams(address, count, on_started))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_open_streams_are_completed_during_shutdown(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _script_paused_streams(upstream, paused, 100)

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
def test_open_streams_get_an_error_event_after_the_drain_timeout(
    command: Command, upstream: ScriptedUpstream, paused: Pause, protocol: str, workers: str
) -> None:
    _script_paused_streams(upstream, paused, 3)
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
def test_a_second_signal_ends_open_streams_immediately(
    command: Command, upstream: ScriptedUpstream, paused: Pause, workers: str
) -> None:
    _script_paused_streams(upstream, paused, 1)
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


def test_requests_on_open_connections_are_served_during_shutdown(
    command: Command, upstream: ScriptedUpstream, paused: Pause
) -> None:
    _script_paused_streams(upstream, paused, 1)
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url) as server,
        httpx.Client(base_url=server.address, timeout=DEADLINE, trust_env=False) as client,
        httpx.stream(
            "POST", f"{server.address}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
        ) as response,
    ):
        received = response.iter_bytes()
        next(received)
        assert client.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "no more is accepted")
        assert client.get("/readyz").status_code == 503
        missing = client.get("/v1/nothing")
        assert (missing.status_code, missing.headers["connection"]) == (404, "close")
        paused.go.set()
        assert COMPLETE in b"".join(received)
        assert server.process.wait(DEADLINE) == 0


def _workers(server: Running) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_worker_is_replaced_and_others_continue(
    command: Command, upstream: ScriptedUpstream, paused: Pause
) -> None:
    _script_paused_streams(upstream, paused, 8)

    def kill() -> None:
        before = _workers(server)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: set(_workers(server)) - set(before), "the worker is replaced")
        paused.go.set()

    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        received = _streams(server.address, "http/1.1", 8, kill)
        code, log = server.end()
    assert code == 0
    # The system assigns connections to workers: at worst the killed one had all eight.
    assert all(data.startswith(b"event: message_start") for data in received)
    assert "worker exited" in log


def test_workers_end_with_the_supervisor(command: Command, upstream: ScriptedUpstream) -> None:
    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        server.process.kill()
        until(lambda: refuses_connections(server.address), "the port is closed")


def test_a_worker_ends_if_the_supervisor_has_not_read_its_report(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The socket reports an error instead of its end if the report of the worker is not read."""
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
    # The output pipe closes when all processes that inherit it have ended.
    result = subprocess.run(
        [sys.executable, "-c", script, upstream.url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL
    assert "stopping" in result.stdout
