"""The measured servers, the measurements, and their results."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench import bodies
from bench.processes import MeasuredProcess, hold_load, run_load

# Number of rounds. In each round, all targets are measured in turn.
_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """A figure and its target."""

    case: str
    what: str
    # None if it cannot be measured on this machine.
    value: float | None
    unit: str
    # Upper limit of the value, or lower limit with `at_least`; None without a target.
    target: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Target:
    """A server that receives the load: the proxy, a baseline, or the upstream."""

    name: str
    server: MeasuredProcess
    path: str
    anthropic: bool

    def task(
        self, kind: str, model: str, clients: int, *, stream: bool, **more: Any
    ) -> dict[str, Any]:
        body = bodies.small(model, stream=stream, anthropic=self.anthropic)
        return {
            "kind": kind,
            "url": f"{self.server.url}{self.path}",
            "body": body,
            "clients": clients,
            **more,
        }


@dataclass
class Bench:
    """The processes of a run, and its measurements."""

    upstream: MeasuredProcess
    proxy: Target
    baselines: dict[str, Target]
    # Approximate duration of each measurement.
    seconds: float
    peak_loads: dict[str, float] = field(default_factory=dict)

    @property
    def direct(self) -> Target:
        return Target("direct", self.upstream, "/v1/chat/completions", anthropic=False)

    @property
    def targets(self) -> list[Target]:
        return [self.proxy, *self.baselines.values()]

    def run(self, name: str, target: Target, task: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Return the CPU seconds of the target's processes, and the results of the load generator.

        Also record the CPU shares of the load generator and the upstream. If one of them is near 1,
        it limits the measurement.
        """
        before, upstream_before = target.server.cpu(), self.upstream.cpu()
        result = run_load(task)
        used = target.server.cpu() - before
        if target.server is not self.upstream:
            # Without the proxy, the upstream is expected to be the limit.
            self._record_load(
                name, result["cpu"], self.upstream.cpu() - upstream_before, result["wall"]
            )
        return used, result

    def watch(
        self, name: str, target: Target, task: dict[str, Any], seconds: float
    ) -> tuple[float, int]:
        """Return the CPU seconds of the target's processes and the events while streams are open.

        The start and the end of the streams do not count.
        """
        with hold_load(task) as clients:
            before = (
                target.server.cpu(),
                clients.cpu(),
                self.upstream.cpu(),
                time.perf_counter(),
                clients.events(),
            )
            time.sleep(seconds)
            after = (
                target.server.cpu(),
                clients.cpu(),
                self.upstream.cpu(),
                time.perf_counter(),
                clients.events(),
            )
        used, load_cpu, upstream_cpu, wall, events = (
            late - early for early, late in zip(before, after, strict=True)
        )
        self._record_load(name, load_cpu, upstream_cpu, wall)
        return used, int(events)

    def measure_in_turn(
        self, measure: Callable[[Target, float], tuple[float, ...]]
    ) -> dict[str, tuple[float, ...]]:
        """Return the figures of all targets by name, as medians of several rounds.

        The targets take turns, so that other work on the machine affects all of them.
        """
        rounds = min(max(int(self.seconds), 1), _ROUNDS)
        samples: dict[str, list[tuple[float, ...]]] = {target.name: [] for target in self.targets}
        for _ in range(rounds):
            for target in self.targets:
                samples[target.name].append(measure(target, self.seconds / rounds))
        return {
            name: tuple(map(statistics.median, zip(*figures, strict=True)))
            for name, figures in samples.items()
        }

    def _record_load(self, name: str, load_cpu: float, upstream_cpu: float, wall: float) -> None:
        for source, cpu in (("load generator", load_cpu), ("upstream", upstream_cpu)):
            self.peak_loads[f"{source}, {name}"] = max(
                cpu / wall, self.peak_loads.get(f"{source}, {name}", 0)
            )
