"""The log of a server whose standard error is not read."""

import os
import signal
from pathlib import Path
from typing import Self

import httpx
import pytest

from anthropic_proxy.observability.log_writer import MAX_BYTES
from tests.support.running_command import Command, until
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream

# With --verbose, the log contains request bodies. This number of requests fills pipe and queue.
_BODY = {"model": "m", "messages": [{"role": "user", "content": "x-" * 15_000}]}
_REQUEST_COUNT = MAX_BYTES // 30_000 + 10


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


class _UnreadServer:
    """A server that logs to a pipe that no process reads."""

    def __init__(self, command: Command, upstream: ScriptedUpstream, workers: int) -> None:
        self.reader, writer = os.pipe()
        socket = command.home / "proxy.sock"
        self.process = command.popen(
            "--verbose",
            stderr=writer,
            UPSTREAM_BASE_URL=upstream.url,
            UNIX_SOCKET=str(socket),
            WORKERS=str(workers),
            LOG_FORMAT="json",
        )
        os.close(writer)
        self._transport = httpx.HTTPTransport(uds=str(socket))
        self._requests = workers * _REQUEST_COUNT

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.reader)

    def fill(self) -> None:
        """Send requests until lines of the log are dropped."""
        self.read_until(b'"event":"server started"')
        with httpx.Client(
            transport=self._transport, base_url="http://proxy", timeout=DEADLINE
        ) as client:
            for _ in range(self._requests):
                # The request has no max_tokens.
                assert client.post("/v1/messages", json=_BODY).status_code == 400
            until(lambda: _dropped(client) > 0, "dropped lines are counted")

    def read_until(self, text: bytes) -> None:
        """Read the log until it contains the text."""
        received = b""
        while text not in received:
            received = received[-100:] + os.read(self.reader, 65536)


def _dropped(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("anthropic_proxy_log_lines_dropped_total ")
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unread_log_does_not_block_the_server(
    command: Command, upstream: ScriptedUpstream, workers: int
) -> None:
    """The server handles requests, counts the dropped lines, and ends without delay."""
    with _UnreadServer(command, upstream, workers) as server:
        server.fill()
        server.process.send_signal(signal.SIGTERM)
        # No byte is read. A worker waits one second for its lines to be written.
        assert server.process.wait(DEADLINE) == 0


def test_dropped_lines_are_reported_when_the_log_is_read(
    command: Command, upstream: ScriptedUpstream
) -> None:
    with _UnreadServer(command, upstream, 1) as server:
        server.fill()
        server.read_until(b'"event":"log lines dropped"')
