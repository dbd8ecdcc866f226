"""The metrics of several processes as one: they share their numbers by files, which are merged for whoever scrapes any of
them. prometheus_client does that; what the system says of each process is added up here.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, multiprocess, values
from prometheus_client.registry import Collector

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def share(directory: str) -> None:
    """Keep the numbers of this process, and of those that it forks, in files of `directory`. Before any Metrics is made."""
    os.environ[_DIRECTORY] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # the library has types in part


def kinds(registry: CollectorRegistry) -> tuple[Callable[..., Histogram], Callable[..., Counter], Callable[..., Gauge]]:
    """What makes histograms, counters and gauges in `registry`; gauges of several processes are added up, unless they say
    otherwise.
    """

    def histogram(name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Histogram:
        return Histogram(name, text, labels, registry=registry, **more)

    def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=registry)

    def gauge(name: str, text: str, labels: tuple[str, ...] = (), multiprocess_mode: Any = "livesum") -> Gauge:
        return Gauge(name, text, labels, registry=registry, multiprocess_mode=multiprocess_mode)

    return histogram, counter, gauge


def all_metrics(own: CollectorRegistry) -> CollectorRegistry:
    """The metrics of all processes; of a process that shares none, its own."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        return own
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # the library has types in part
    registry.register(_Processes(Path(directory)))
    return registry


def died(pid: int) -> None:
    """A process that shared its numbers has ended: what it counted stays, what it had open is gone."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has types in part


class _Processes(Collector):
    """What the system knows of all processes that share their numbers, as of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Sums; of limits and times of start, the least."""
        pids = {path.stem.rpartition("_")[2] for path in self._directory.glob("gauge_live*.db")}
        found: dict[str, list[Metric]] = {}
        for pid in pids:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                found.setdefault(metric.name, []).append(metric)
        for metrics in found.values():
            yield _joined(metrics)


_LEAST = frozenset({"process_max_fds", "process_start_time_seconds"})


def _joined(metrics: list[Metric]) -> Metric:
    first = metrics[0]
    numbers = [sample.value for metric in metrics for sample in metric.samples]
    value = min(numbers) if first.name in _LEAST else sum(numbers)
    first.samples = [first.samples[0]._replace(value=value)]
    return first
