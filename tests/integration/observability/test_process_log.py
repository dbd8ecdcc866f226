"""The log of a server whose standard error nobody reads."""

import os
import signal
from pathlib import Path
from typing import Self

import httpx
import pytest

from anthropic_proxy.observability.log_writer import MAX_BYTES
from tests.support.running_command import Command, until
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream

# With --verbose the log has the bodies of requests. So many requests fill the pipe and a queue.
_BODY = {"model": "m", "messages": [{"role": "user", "content": "x-" * 15_000}]}
_ENOUGH = MAX_BYTES // 30_000 + 10


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


class _Unread:
    """A server whose log has filled a pipe that no process reads. All requests succeeded."""

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
        self._requests = workers * _ENOUGH

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
                # There is no max_tokens.
                assert client.post("/v1/messages", json=_BODY).status_code == 400
            until(lambda: _dropped(client) > 0, "dropped lines are counted")

    def read_until(self, text: bytes) -> None:
        """Read the log until a text comes."""
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
def test_a_reader_that_does_not_read(
    command: Command, upstream: ScriptedUpstream, workers: int
) -> None:
    """Requests are served on, what could not be written is counted, and the end is not delayed."""
    with _Unread(command, upstream, workers) as server:
        server.fill()
        server.process.send_signal(signal.SIGTERM)
        # Not a byte is read: a worker waits a second for its lines to be written.
        assert server.process.wait(DEADLINE) == 0


def test_what_was_dropped_is_reported_once_it_is_read(
    command: Command, upstream: ScriptedUpstream
) -> None:
    with _Unread(command, upstream, 1) as server:
        server.fill()
        server.read_until(b'"event":"log lines dropped"')
