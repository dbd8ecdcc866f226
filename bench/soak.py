"""Soak test: mixed traffic with faults, then a check for leaks.

Run it with `make soak` (ten minutes) or `make soak SECONDS=60 WORKERS=2`. It fails if memory grows,
or if files, tasks or requests remain open after the last client has disconnected.
"""

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_CLIENTS = 24
_TIMEOUT = 60
# Allowed memory growth from the middle third to the last third: the allocator keeps freed memory.
_GROWTH_FACTOR = 1.05
_GROWTH_BYTES = 4 * 2**20
# Minimum number of samples (one per second). Memory of a new server grows until it is warm.
_MIN_SAMPLES = 60
# Allowed differences: idle connections to upstreams, and files that are opened on first use.
_SPARE_FILES = 40
_SPARE_TASKS = 10

_ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
_STREAM = _ASK | {"stream": True}
_TOOLS = _STREAM | {
    "tools": [
        {
            "name": "look",
            "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
        }
    ]
}
_BIG = _ASK | {"messages": [{"role": "user", "content": "x" * 2_000_000}]}

Kind = Callable[[httpx.AsyncClient], Awaitable[str]]


@dataclass(frozen=True)
class Sample:
    """Totals of all processes of the server: memory in bytes, files, threads, and gauges."""

    memory: int
    files: int
    threads: int
    tasks: int
    in_flight: int


class Server:
    """A running proxy in front of two faulty upstreams."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    async def sample(self, http_client: httpx.AsyncClient) -> Sample:
        pids = [self.process.pid, *_list_children(self.process.pid)]
        text = (await http_client.get(f"{self.address}/metrics")).text
        return Sample(
            sum(_read_status(pid, "VmRSS") * 1024 for pid in pids),
            sum(len([*Path(f"/proc/{pid}/fd").iterdir()]) for pid in pids),
            sum(_read_status(pid, "Threads") for pid in pids),
            _read_gauge(text, "anthropic_proxy_tasks"),
            _read_gauge(text, "anthropic_proxy_requests_in_flight"),
        )


def _list_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _read_status(pid: int, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _read_gauge(text: str, name: str) -> int:
    return sum(
        int(float(value))
        for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    )


@contextmanager
def _run_upstream() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.faulty_upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.kill()


@contextmanager
def _run_server(upstreams: str, workers: int) -> Iterator[Server]:
    variables = {
        "UPSTREAM_BASE_URL": upstreams,
        "UPSTREAM_PROVIDER": "generic",
        "UPSTREAM_FIRST_BYTE_TIMEOUT": "2",
        "UPSTREAM_IDLE_TIMEOUT": "2",
        "WORKERS": str(workers),
        "HOST": "127.0.0.1",
        "HEADER_TIMEOUT": "5",
        "KEEPALIVE_TIMEOUT": "5",
        "LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "anthropic_proxy", "-p", "0"]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        match = None
        while not match:
            match = re.search(r'"address":"([^"]+)"', process.stderr.readline())
        log_reader = subprocess.Popen(
            ["cat"],  # noqa: S607 - a system command
            stdin=process.stderr,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield Server(process, match[1])
        finally:
            process.terminate()
            log_reader.wait(_TIMEOUT)


async def _send_whole(client: httpx.AsyncClient, body: dict[str, Any] = _ASK) -> str:
    return str((await client.post("/v1/messages", json=body)).status_code)


async def _read_stream(
    client: httpx.AsyncClient, body: dict[str, Any] = _STREAM, max_chunks: float = float("inf")
) -> str:
    """Return the outcome of a stream. max_chunks: chunks after which the client disconnects."""
    last = ""
    async with client.stream("POST", "/v1/messages", json=body) as response:
        if response.status_code != 200:
            return str(response.status_code)
        count = 0
        async for text in response.aiter_text():
            last, count = text or last, count + 1
            if count >= max_chunks:
                return "left"
    return (
        "complete" if "message_stop" in last else "error event" if "event: error" in last else "cut"
    )


async def _leave_stream(client: httpx.AsyncClient) -> str:
    return await _read_stream(client, max_chunks=random.randint(1, 5))


async def _cancel_request(client: httpx.AsyncClient) -> str:
    # A separate client: httpcore miscounts its HTTP/2 streams after cancelled requests.
    async with httpx.AsyncClient(
        base_url=client.base_url, timeout=30, trust_env=False
    ) as short_lived_client:
        try:
            async with asyncio.timeout(random.uniform(0, 0.05)):
                return await _send_whole(short_lived_client)
        except TimeoutError:
            return "gave up"


async def _count_tokens(client: httpx.AsyncClient) -> str:
    body = {name: _TOOLS[name] for name in ("model", "messages", "tools")}
    return str((await client.post("/v1/messages/count_tokens", json=body)).status_code)


async def _send_invalid(client: httpx.AsyncClient) -> str:
    return str((await client.post("/v1/messages", content=b'{"model": ' + b"[" * 2000)).status_code)


async def _get_other_path(client: httpx.AsyncClient) -> str:
    return str((await client.get(random.choice(["/health", "/readyz", "/none", "/"]))).status_code)


async def _abort_body(client: httpx.AsyncClient) -> str:
    url = client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    return "cut"


KINDS: dict[str, tuple[Kind, int]] = {
    "stream": (_read_stream, 30),
    "stream with tools": (lambda client: _read_stream(client, _TOOLS), 15),
    "whole": (_send_whole, 15),
    "whole, 2 MB": (lambda client: _send_whole(client, _BIG), 2),
    "leaves a stream": (_leave_stream, 10),
    "gives up": (_cancel_request, 8),
    "count_tokens": (_count_tokens, 8),
    "no request": (_send_invalid, 4),
    "other paths": (_get_other_path, 4),
    "cuts its body": (_abort_body, 4),
}


async def _run_client(
    address: str, deadline: float, outcomes: Counter[tuple[str, str]], *, http2: bool
) -> None:
    names = [*KINDS]
    while time.monotonic() < deadline:
        async with httpx.AsyncClient(
            base_url=address, http1=not http2, http2=http2, timeout=30, trust_env=False
        ) as client:
            for name in random.choices(names, [KINDS[name][1] for name in names], k=20):
                if time.monotonic() >= deadline:
                    return
                try:
                    outcome = await KINDS[name][0](client)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                outcomes[name, outcome] += 1


async def _soak(
    server: Server, seconds: float
) -> tuple[list[Sample], Sample, Sample, Counter[tuple[str, str]]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http_client:
        await http_client.get(f"{server.address}/v1/models")
        baseline = await server.sample(http_client)
        deadline = time.monotonic() + seconds
        clients = [
            asyncio.create_task(
                _run_client(server.address, deadline, outcomes, http2=number % 3 == 0)
            )
            for number in range(_CLIENTS)
        ]
        samples = []
        while time.monotonic() < deadline:
            samples.append(await server.sample(http_client))
            await asyncio.sleep(1)
        await asyncio.gather(*clients)
        return samples, baseline, await _wait_until_idle(server, http_client, baseline), outcomes


async def _wait_until_idle(
    server: Server, http_client: httpx.AsyncClient, baseline: Sample
) -> Sample:
    """Wait until the server has no leaks, up to `_TIMEOUT`, and return the last sample."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        after = await server.sample(http_client)
        is_idle = not _find_leaks(baseline, after)
        if is_idle or time.monotonic() > deadline:
            return after
        await asyncio.sleep(1)


def _find_leaks(baseline: Sample, after: Sample) -> list[str]:
    checks = {
        # The request for the metrics is in flight, too.
        f"{after.in_flight} requests are still in flight": after.in_flight > 1,
        f"{after.files} files are open, {baseline.files} were": after.files
        > baseline.files + _SPARE_FILES,
        f"{after.tasks} tasks run, {baseline.tasks} did": after.tasks
        > baseline.tasks + _SPARE_TASKS,
    }
    return [text for text, is_wrong in checks.items() if is_wrong]


def _find_growth(samples: list[Sample]) -> list[str]:
    if len(samples) < _MIN_SAMPLES:
        return []
    third = len(samples) // 3
    middle, last = (
        statistics.fmean(each.memory for each in part)
        for part in (samples[third:-third], samples[-third:])
    )
    if last <= middle * _GROWTH_FACTOR + _GROWTH_BYTES:
        return []
    return [
        (
            f"memory grows: {middle / 2**20:.1f} MiB in the middle third, "
            f"{last / 2**20:.1f} MiB in the last"
        )
    ]


def _report(
    samples: list[Sample], baseline: Sample, after: Sample, outcomes: Counter[tuple[str, str]]
) -> None:
    for name in KINDS:
        counts = {what: count for (kind, what), count in sorted(outcomes.items()) if kind == name}
        details = ", ".join(f"{what} {count}" for what, count in counts.items())
        print(f"{name:20} {sum(counts.values()):7}  {details}")
    print(f"\n{'':10} {'memory MiB':>10} {'files':>6} {'threads':>7} {'tasks':>6} {'in flight':>9}")
    third = len(samples) // 3
    parts = {
        "before": [baseline],
        "first": samples[:third],
        "middle": samples[third:-third],
        "last": samples[-third:],
        "after": [after],
    }
    for name, part in parts.items():
        if part:
            fields = ("memory", "files", "threads", "tasks", "in_flight")
            memory, files, threads, tasks, in_flight = (
                statistics.fmean(getattr(each, field) for each in part) for field in fields
            )
            print(
                f"{name:10} {memory / 2**20:10.1f} {files:6.0f} {threads:7.0f} "
                f"{tasks:6.0f} {in_flight:9.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="duration of the traffic")
    parser.add_argument("--workers", type=int, default=1, help="WORKERS of the proxy")
    options = parser.parse_args()
    with (
        _run_upstream() as first_url,
        _run_upstream() as second_url,
        _run_server(f"{first_url};{second_url}", options.workers) as server,
    ):
        samples, baseline, after, outcomes = asyncio.run(_soak(server, options.seconds))
    _report(samples, baseline, after, outcomes)
    problems = [*_find_leaks(baseline, after), *_find_growth(samples)]
    with suppress(ProcessLookupError):
        server.process.kill()
    if server.process.returncode:
        problems.append(f"the server ended with {server.process.returncode}")
    sys.exit("\n".join(problems) or None)


if __name__ == "__main__":
    main()
