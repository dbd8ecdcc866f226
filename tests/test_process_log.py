"""The log of a server whose standard error nobody reads."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from anthropic_proxy.observe.log_writer import MAX_BYTES
from tests.running_command import Command, until
from tests.scripted_upstream import DEADLINE, ScriptedUpstream

# With --verbose the log has the bodies of requests. So many requests fill the pipe and a queue.
_BODY = {"model": "m", "messages": [{"role": "user", "content": "x-" * 15_000}]}
_ENOUGH = MAX_BYTES // 30_000 + 10


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_does_not_read(command: Command, upstream: ScriptedUpstream, workers: str) -> None:
    """Requests are served on, what could not be written is counted, and the end is not delayed."""
    reader, writer = os.pipe()
    socket = command.home / "proxy.sock"
    process = command.popen(
        "--verbose",
        stderr=writer,
        UPSTREAM_BASE_URL=upstream.url,
        UNIX_SOCKET=str(socket),
        WORKERS=workers,
        LOG_FORMAT="json",
    )
    os.close(writer)
    received = b""
    try:
        while b'"event":"listening"' not in received:
            received += os.read(reader, 65536)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=DEADLINE) as client:
            for _ in range(int(workers) * _ENOUGH):
                assert _refused(client)
            until(lambda: _dropped(client) > 0, "dropped lines are counted")
        process.send_signal(signal.SIGTERM)
        # Not a byte is read: a worker waits a second for its lines to be written.
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(reader)


def _refused(client: httpx.Client) -> bool:
    """Send a request that has no max_tokens."""
    return client.post("http://proxy/v1/messages", json=_BODY).status_code == 400


def _dropped(client: httpx.Client) -> float:
    lines = client.get("http://proxy/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("anthropic_proxy_log_lines_dropped_total "))


def test_what_was_dropped_is_reported_once_it_is_read(command: Command, upstream: ScriptedUpstream) -> None:
    reader, writer = os.pipe()
    socket = command.home / "proxy.sock"
    process = command.popen(
        "--verbose", stderr=writer, UPSTREAM_BASE_URL=upstream.url, UNIX_SOCKET=str(socket), LOG_FORMAT="json"
    )
    os.close(writer)
    received = b""
    try:
        while b'"event":"listening"' not in received:
            received += os.read(reader, 65536)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=DEADLINE) as client:
            for _ in range(_ENOUGH):
                assert _refused(client)
            until(lambda: _dropped(client) > 0, "dropped lines are counted")
        while b'"event":"log lines dropped"' not in received:
            received = received[-100:] + os.read(reader, 65536)
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(reader)
