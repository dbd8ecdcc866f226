"""Replicas behind a real front proxy are replaced one after the other under load, as in Kubernetes:
no request fails, and no stream is truncated. `make test-fronts` installs Envoy and Traefik, and
runs this.

A replica is first removed from the front's endpoints, as happens to a pod during its preStop pause.
Then it receives SIGTERM, and exits when its responses have ended. Its successor is added to the
endpoints before.
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
REPLACED = 2


class Pacing(ScriptedUpstream):
    """Answers every request; streams take their time, as those of models do."""

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
    """Clients that ask all the time, in three ways, and never again for what failed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._over = threading.Event()
        self.done: Counter[str] = Counter()

    @contextlib.contextmanager
    def going(self) -> Iterator["Load"]:
        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = [threads.submit(self._client) for _ in range(CLIENTS)]
            try:
                yield self
            finally:
                self._over.set()
            for client in clients:
                client.result(DEADLINE)

    def wait_for_more(self) -> None:
        """Until each kind was asked for some times more."""
        before = self.done.copy()
        deadline = time.monotonic() + DEADLINE
        while any(self.done[kind] < before[kind] + 3 for kind in ("streamed", "whole", "counted")):
            assert time.monotonic() < deadline, "the clients are not answered"
            self._over.wait(0.01)

    def _client(self) -> None:
        ask: dict[str, Any] = {
            "model": "m",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        count = {key: value for key, value in ask.items() if key != "max_tokens"}
        with anthropic.Anthropic(
            base_url=self._address, api_key="none", max_retries=0, timeout=DEADLINE
        ) as client:
            while not self._over.is_set():
                with client.messages.stream(**ask) as stream:
                    assert stream.get_final_text() == "".join(WORDS)
                self.done["streamed"] += 1
                assert client.messages.create(**ask).stop_reason == "end_turn"
                self.done["whole"] += 1
                assert client.messages.count_tokens(**count).input_tokens
                self.done["counted"] += 1


@pytest.fixture
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    name, protocol = request.param
    if program(name) is None:
        pytest.skip(f"{name} is not installed: make test-fronts")
    return FRONTS[name](tmp_path, protocol)


BOTH: tuple[Protocol, ...] = ("http/1.1", "h2c")


class Replicas:
    """Servers that follow one another."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, upstream: str) -> None:
        self._stack = stack
        self._folder = folder
        self._upstream = upstream
        self._begun = 0
        self.running: list[Running] = []

    @property
    def ports(self) -> list[int]:
        return [int(urlsplit(each.address).port or 0) for each in self.running]

    def start(self) -> None:
        command = Command(self._folder / f"replica-{self._begun}")
        command.home.mkdir()
        self._begun += 1
        server = command.serving(
            "--host", "127.0.0.1", UPSTREAM_BASE_URL=self._upstream, LOG_FORMAT="json"
        )
        self.running.append(self._stack.enter_context(server))


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with Pacing() as upstream, contextlib.ExitStack() as stack:
        yield Replicas(stack, tmp_path, upstream.url)


@pytest.mark.parametrize(
    "front", [(name, protocol) for name in FRONTS for protocol in BOTH], indirect=True, ids="-".join
)
def test_replicas_are_replaced_under_load(front: Front, replicas: Replicas) -> None:
    replicas.start()
    replicas.start()
    with front.running(replicas.ports), Load(front.address).going() as load:
        for _ in range(REPLACED):
            load.wait_for_more()
            replicas.start()
            front.route_to(replicas.ports)
            leaving = replicas.running.pop(0)
            front.route_to(replicas.ports)
            code, log = leaving.end(signal.SIGTERM)
            assert code == 0, log
            assert '"outcome":"complete"' in log
        load.wait_for_more()
