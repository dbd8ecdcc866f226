"""The measurements. Each case yields rows: a name, a figure with its unit, and its target."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from bench import bodies
from bench.processes import allow_files, hold_load, run_load, run_proxy
from bench.targets import Bench, Row, Target

# Open files of a server that are not connections.
_SPARE_FILES = 500
# Minimum seconds of a measurement: the system counts CPU time in units of 10 ms.
_SHORTEST = 0.5


def _compare(
    case: str, figure: str, figures: dict[str, float], unit: str, targets: dict[str, float]
) -> Iterator[Row]:
    """Yield the figures, and the ratio of the proxy to each baseline."""
    for name, value in figures.items():
        yield Row(case, f"{figure}: {name}", value, unit)
    for name, value in figures.items():
        if name != "ours":
            yield Row(
                case, f"{figure}: ours / {name}", figures["ours"] / value, "x", targets.get(name)
            )


def paced(bench: Bench) -> Iterator[Row]:
    """Measure the CPU time per event of 100 streams with 50 events per second.

    Each event is a separate write. The first figure is for complete streams of 200 events with
    their requests, the second figure only for events.
    """
    streams, rate = 100, 50
    count = min(200, max(int(rate * bench.seconds), rate))

    def measure(target: Target, seconds: float) -> tuple[float, float]:
        whole_cpu, _ = bench.run(
            "paced", target, target.task("streams", f"paced-{count}-{rate}", streams, stream=True)
        )
        hold_task = target.task("hold", f"paced-1000000-{rate}", streams, stream=True)
        used, events = bench.watch("paced", target, hold_task, max(seconds, _SHORTEST))
        return whole_cpu / (streams * count) * 1e6, used / events * 1e6

    figures = bench.measure_in_turn(measure)
    aims = {"pass-through, aiohttp": 1.15, "pass-through, httpx": 0.55}
    whole = {name: each for name, (each, _) in figures.items()}
    yield from _compare("paced", "CPU per event", whole, "us", aims)
    alone = {name: each for name, (_, each) in figures.items()}
    yield from _compare("paced", "without requests", alone, "us", {})


def flooded(bench: Bench) -> Iterator[Row]:
    """Measure the throughput of 50 streams from an upstream that sends as fast as possible."""
    streams = 50

    def measure(target: Target, seconds: float) -> tuple[float, float]:
        events = max(int(1000 * seconds), 500)
        used, result = bench.run(
            "flooded", target, target.task("streams", f"flood-{events}", streams, stream=True)
        )
        return streams * events / used, streams * events / result["wall"]

    for name, (per_cpu, rate) in bench.measure_in_turn(measure).items():
        aim = 250_000 if name == bench.proxy.name else None
        yield Row("flooded", f"events per CPU second: {name}", per_cpu, "/s", aim, at_least=True)
        yield Row("flooded", f"events per second: {name}", rate, "/s")


def requests(bench: Bench) -> Iterator[Row]:
    """Measure CPU time and rate of requests that are not streamed."""

    def measure(target: Target, seconds: float) -> tuple[float, float]:
        task = target.task("requests", "whole", 20, stream=False, seconds=max(seconds, _SHORTEST))
        used, result = bench.run("requests", target, task)
        return used / len(result["whole"]) * 1e6, len(result["whole"]) / result["seconds"]

    figures = bench.measure_in_turn(measure)
    for name, (_, rate) in figures.items():
        aim = 900 if name == bench.proxy.name else None
        yield Row("requests", f"requests per second: {name}", rate, "/s", aim, at_least=True)
    cpu = {name: each for name, (each, _) in figures.items()}
    yield from _compare("requests", "CPU per request", cpu, "us", {"pass-through, aiohttp": 1.2})


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def latency(bench: Bench) -> Iterator[Row]:
    """Measure the latency that the proxy adds to a direct request to the upstream."""
    for clients in (1, 16, 64):
        latencies = {}
        for target in (bench.direct, bench.proxy):
            task = target.task(
                "requests", "whole", clients, stream=False, seconds=bench.seconds / 2
            )
            latencies[target.name] = bench.run("latency", target, task)[1]["whole"]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            added = _quantile(latencies["ours"], share) - _quantile(latencies["direct"], share)
            aim = 2 if clients == 1 and name == "p50" else None
            yield Row("latency", f"added at {clients} clients, {name}", added * 1e3, "ms", aim)


def first_token(bench: Bench) -> Iterator[Row]:
    """Measure the time that the proxy adds to the first token, while other streams are open.

    The other streams have 100 events per second in total.
    """
    for streams in (1, 100, 1000):
        medians = {}
        for target in (bench.direct, bench.proxy):
            hold_task = target.task("hold", f"paced-1000000-{100 / streams}", streams, stream=True)
            with hold_load(hold_task):
                task = target.task("requests", "paced-1-1000", 1, stream=True, requests=50)
                medians[target.name] = statistics.median(
                    bench.run("first token", target, task)[1]["first"]
                )
        yield Row(
            "first token",
            f"added with {streams} open streams, median",
            (medians["ours"] - medians["direct"]) * 1e3,
            "ms",
        )


def memory(bench: Bench) -> Iterator[Row]:
    """Measure memory: idle, per open stream, and the growth during a long stream.

    The open streams have 100 events per second in total.
    """
    with run_proxy(bench.upstream.url) as server:
        target = Target("ours", server, "/v1/messages", anthropic=True)
        run_load(target.task("requests", "whole", 1, stream=False, requests=10))
        idle = server.memory()
        yield Row("memory", "idle", idle / 2**20, "MiB", 70)
        for streams in (1000, 5000):
            label = f"per stream at {streams}"
            if not allow_files(streams * 2 + _SPARE_FILES):
                yield Row("memory", f"{label} (RLIMIT_NOFILE is too low)", None, "KiB", 45)
                continue
            with hold_load(
                target.task("hold", f"paced-1000000-{100 / streams}", streams, stream=True)
            ):
                yield Row("memory", label, (server.memory() - idle) / streams / 1024, "KiB", 45)
    yield from _long_stream(bench)


def _long_stream(bench: Bench) -> Iterator[Row]:
    """Measure the growth in a stream of 180,000 events: an hour at 50 events per second."""
    with run_proxy(bench.upstream.url) as server:
        target = Target("ours", server, "/v1/messages", anthropic=True)
        run_load(target.task("streams", "flood-20000", 1, stream=True))
        before = server.memory()
        run_load(target.task("streams", "flood-180000", 1, stream=True))
        yield Row(
            "memory",
            "grown by a stream of 180,000 events",
            (server.memory() - before) / 1024,
            "KiB",
            1024,
        )


def inputs(bench: Bench) -> Iterator[Row]:
    """Measure CPU time and latency of large requests. The growth must be linear."""
    cpu_per_megabyte = {}
    for size, count in ((100_000, 40), (1_000_000, 20), (10_000_000, 5)):
        body = bodies.large(size)
        task = {
            "kind": "requests",
            "url": f"{bench.proxy.server.url}/v1/messages",
            "body": body,
            "clients": 1,
            "requests": count,
        }
        run_load(task | {"requests": 2})
        used, result = bench.run("inputs", bench.proxy, task)
        cpu_per_megabyte[size] = used / count * 1e3 / (len(body) / 1e6)
        aim = 12 if size == 1_000_000 else None
        yield Row("inputs", f"CPU for {len(body) / 1e6:.1f} MB", used / count * 1e3, "ms", aim)
        yield Row(
            "inputs",
            f"time for {len(body) / 1e6:.1f} MB, median",
            statistics.median(result["whole"]) * 1e3,
            "ms",
        )
    yield Row(
        "inputs",
        "CPU per byte, 10 MB / 1 MB",
        cpu_per_megabyte[10_000_000] / cpu_per_megabyte[1_000_000],
        "x",
        1.2,
    )


def start(bench: Bench) -> Iterator[Row]:
    """Measure the time until the server listens, and the CPU time of its imports."""
    start_times = []
    for _ in range(3):
        with run_proxy(bench.upstream.url) as server:
            start_times.append(server.startup_seconds)
    yield Row("start", "until it listens, best of three", min(start_times), "s", 1.2)
    code = (
        "import time; import anthropic_proxy.cli.main, anthropic_proxy.server.main; "
        "print(time.process_time())"
    )
    import_times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(3)
    ]
    yield Row("start", "CPU of Python and its imports, best of three", min(import_times), "s")


def workers(bench: Bench) -> Iterator[Row]:
    """Measure requests per second with one worker and two workers.

    Clients and upstream use the same machine.
    """
    rates = {}
    for count in (1, 2):
        with run_proxy(bench.upstream.url, WORKERS=str(count)) as server:
            target = Target(f"WORKERS={count}", server, "/v1/messages", anthropic=True)
            run_load(target.task("requests", "whole", 20, stream=False, seconds=0.5))
            _, result = bench.run(
                "workers",
                target,
                target.task("requests", "whole", 40, stream=False, seconds=bench.seconds),
            )
            rates[count] = len(result["whole"]) / result["seconds"]
            yield Row("workers", f"requests per second, WORKERS={count}", rates[count], "/s")
            yield Row("workers", f"memory, WORKERS={count}", server.memory() / 2**20, "MiB")
    yield Row("workers", "two / one", rates[2] / rates[1], "x")


def http2(bench: Bench) -> Iterator[Row]:
    """Measure requests that are not streamed with h2load, over HTTP/2 without TLS.

    Over HTTP/1.1, h2load counts Hypercorn's responses as failed.
    """
    program = shutil.which("h2load")
    if program is None:
        yield Row("http2", "h2load is not installed (apt-get install nghttp2-client)", None, "")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        body.write(bodies.small("whole", stream=False, anthropic=True))
        body.flush()
        count = int(400 * bench.seconds) + 1
        command = [
            program,
            "-n",
            str(count),
            "-c",
            "4",
            "-m",
            "5",
            "-d",
            body.name,
            "-H",
            "content-type: application/json",
        ]
        before, started_at = bench.proxy.server.cpu(), time.monotonic()
        result = subprocess.run(
            [*command, f"{bench.proxy.server.url}/v1/messages"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"{count} 2xx" in result.stdout, result.stdout
        used, took = bench.proxy.server.cpu() - before, time.monotonic() - started_at
    yield Row("http2", "CPU per request", used / count * 1e6, "us")
    yield Row("http2", "requests per second", count / took, "/s")


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "paced": paced,
    "flooded": flooded,
    "requests": requests,
    "latency": latency,
    "first_token": first_token,
    "memory": memory,
    "inputs": inputs,
    "start": start,
    "workers": workers,
    "http2": http2,
}
