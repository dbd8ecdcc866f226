"""Replicas behind a front proxy are replaced sequentially under load, as in Kubernetes.

No request fails, and no stream is truncated.
`make test-fronts` installs Envoy and Traefik, and runs these tests.

The new replica is added to the endpoints first.
Then the old replica is removed from the endpoints, as a pod during its preStop pause.
It receives SIGTERM and exits when its responses have ended.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import pytest

from tests.fronts.fronts import FRONTS, Front, Protocol, program
from tests.support.running_command import Command, Running
from tests.support.scripted_upstream import (
    DEADLINE,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

WORDS = [f"word {number} " for number in range(40)]
SECONDS_PER_WORD = 0.02
CLIENTS = 6
REPLACEMENTS = 2


class SlowUpstream(ScriptedUpstream):
    """An upstream that responds to every request, with slow streams."""

    def script_for(self, received: Received) -> Script:
        return (
            streams(text_chunks(*WORDS)) if received.body.get("stream") else answers(completion())
        )

    async def _play(self, script: Script, writer: asyncio.StreamWriter) -> None:
        for step in [script.head or b"", *script.steps]:
            writer.write(step)
            await writer.drain()
            if len(script.steps) > 1:
                await asyncio.sleep(SECONDS_PER_WORD)


class Load:
    """Clients that continuously send three types of requests, without retries."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stopped = threading.Event()
        self.successes: Counter[str] = Counter()

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = [threads.submit(self._client) for _ in range(CLIENTS)]
            try:
                yield self
            finally:
                self._stopped.set()
            for client in clients:
                client.result(DEADLINE)

    def wait_for_more(self) -> None:
        """Wait until each type of request has succeeded three more times."""
        before = self.successes.copy()
        deadline = time.monotonic() + DEADLINE
        while any(
            self.successes[kind] < before[kind] + 3 for kind in ("stream", "message", "count")
        ):
            assert time.monotonic() < deadline, "the clients get no responses"
            self._stopped.wait(0.01)

    def _client(self) -> None:
        request: dict[str, Any] = {
            "model": "m",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        count_request = {key: value for key, value in request.items() if key != "max_tokens"}
        with anthropic.Anthropic(
            base_url=self._address, api_key="none", max_retries=0, timeout=DEADLINE
        ) as client:
            while not self._stopped.is_set():
                with client.messages.stream(**request) as stream:
                    assert stream.get_final_text() == "".join(WORDS)
                self.successes["stream"] += 1
                assert client.messages.create(**request).stop_reason == "end_turn"
                self.successes["message"] += 1
                assert client.messages.count_tokens(**count_request).input_tokens
                self.successes["count"] += 1


@pytest.fixture
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    name, protocol = request.param
    if program(name) is None:
        pytest.skip(f"{name} is not installed: make test-fronts")
    return FRONTS[name](tmp_path, protocol)


PROTOCOLS: tuple[Protocol, ...] = ("http/1.1", "h2c")


class Replicas:
    """Running replicas, oldest first."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, upstream: str) -> None:
        self._stack = stack
        self._folder = folder
        self._upstream = upstream
        self._started = 0
        self.running: list[Running] = []

    @property
    def ports(self) -> list[int]:
        return [int(urlsplit(each.address).port or 0) for each in self.running]

    def start(self) -> None:
        command = Command(self._folder / f"replica-{self._started}")
        command.home.mkdir()
        self._started += 1
        server = command.serving(
            "--host", "127.0.0.1", UPSTREAM_BASE_URL=self._upstream, LOG_FORMAT="json"
        )
        self.running.append(self._stack.enter_context(server))


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with SlowUpstream() as upstream, contextlib.ExitStack() as stack:
        yield Replicas(stack, tmp_path, upstream.url)


@pytest.mark.parametrize(
    "front",
    [(name, protocol) for name in FRONTS for protocol in PROTOCOLS],
    indirect=True,
    ids="-".join,
)
def test_replicas_are_replaced_under_load(front: Front, replicas: Replicas) -> None:
    replicas.start()
    replicas.start()
    with front.running(replicas.ports), Load(front.address).running() as load:
        for _ in range(REPLACEMENTS):
            load.wait_for_more()
            replicas.start()
            front.route_to(replicas.ports)
            old_replica = replicas.running.pop(0)
            front.route_to(replicas.ports)
            code, log = old_replica.end(signal.SIGTERM)
            assert code == 0, log
            assert '"outcome":"complete"' in log
        load.wait_for_more()
