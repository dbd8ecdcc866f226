"""The log of a server whose standard error nobody reads."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from anthropic_proxy.observe.log_writer import MAX_BYTES
from tests.running_command import Command
from tests.scripted_upstream import DEADLINE, ScriptedUpstream

# It stands in the line of its request. So many requests fill the pipe and a queue.
_PATH = "/" + "x-" * 15_000
_ENOUGH = MAX_BYTES // len(_PATH) + 10


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_does_not_read(command: Command, upstream: ScriptedUpstream, workers: str) -> None:
    """Requests are served on, what could not be written is counted, and the end is not delayed."""
    reader, writer = os.pipe()
    socket = command.home / "proxy.sock"
    process = command.popen(
        stderr=writer, UPSTREAM_BASE_URL=upstream.url, UNIX_SOCKET=str(socket), WORKERS=workers, LOG_FORMAT="json"
    )
    os.close(writer)
    received = b""
    try:
        while b'"event":"listening"' not in received:
            received += os.read(reader, 65536)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=DEADLINE) as client:
            for _ in range(int(workers) * _ENOUGH):
                assert client.get(f"http://proxy{_PATH}").status_code == 404
            assert _dropped(client) > 0
        process.send_signal(signal.SIGTERM)
        # Not a byte is read: a worker waits a second for its lines to be written.
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(reader)


def _dropped(client: httpx.Client) -> float:
    lines = client.get("http://proxy/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("anthropic_proxy_log_lines_dropped_total "))


def test_what_was_dropped_is_reported_once_it_is_read(command: Command, upstream: ScriptedUpstream) -> None:
    reader, writer = os.pipe()
    socket = command.home / "proxy.sock"
    process = command.popen(stderr=writer, UPSTREAM_BASE_URL=upstream.url, UNIX_SOCKET=str(socket), LOG_FORMAT="json")
    os.close(writer)
    received = b""
    try:
        while b'"event":"listening"' not in received:
            received += os.read(reader, 65536)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=DEADLINE) as client:
            for _ in range(_ENOUGH):
                client.get(f"http://proxy{_PATH}")
        while b'"event":"log lines dropped"' not in received:
            received = received[-100:] + os.read(reader, 65536)
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(reader)
