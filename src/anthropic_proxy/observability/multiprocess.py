"""The metrics of several processes as one: they share their numbers by files, which are merged for whoever scrapes any of
them. prometheus_client does that; what the system says of each process is added up here.
"""

import contextlib
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    multiprocess,
    values,
)
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

if sys.platform != "win32":
    import fcntl

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

# Kinds of metrics whose numbers outlive their process, and what their files have in the place of its PID then.
_SUMMED_KINDS = ("counter", "histogram", "summary")
_DEAD = "dead"

# Of a file of numbers, and what an entry may have beside its key.
_MIN_FILE_BYTES = 1 << 16
_ENTRY_BYTES = 32

# The file with the CPU time of processes that have ended, and the name of the metric, which has `_total` in its samples.
_DEAD_CPU = "dead_cpu_seconds"
_CPU = "process_cpu_seconds"

_LOCK_TRIES = 50
_LOCK_PAUSE = 0.01


def share_metrics(directory: str) -> None:
    """Keep the numbers of this process, and of those that it forks, in files of `directory`. Before any Metrics is made."""
    os.environ[_DIRECTORY] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # the library has types in part


def metric_factories(
    registry: CollectorRegistry,
) -> tuple[Callable[..., Histogram], Callable[..., Counter], Callable[..., Gauge]]:
    """What makes histograms, counters and gauges in `registry`; gauges of several processes are added up, unless they say
    otherwise.
    """

    def histogram(name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Histogram:
        return Histogram(name, text, labels, registry=registry, **more)

    def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=registry)

    def gauge(
        name: str, text: str, labels: tuple[str, ...] = (), multiprocess_mode: Any = "livesum"
    ) -> Gauge:
        return Gauge(name, text, labels, registry=registry, multiprocess_mode=multiprocess_mode)

    return histogram, counter, gauge


def collect_all(local_registry: CollectorRegistry) -> CollectorRegistry:
    """The metrics of all processes; of a process that shares none, its own."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        return local_registry
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # the library has types in part
    registry.register(_ProcessMetrics(Path(directory)))
    return registry


@contextlib.contextmanager
def lock_for_reading() -> Iterator[None]:
    """Hold the shared numbers still, so that none is missed or read twice while another process moves them."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        yield
        return
    with _lock_file(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def retire_process(pid: int, cpu_seconds: float = 0.0) -> None:
    """A process that shared its numbers has ended: what it counted stays, what it had open is gone. cpu_seconds: that it
    took; without them the CPU time of all processes would fall, which is a restart to Prometheus.
    """
    directory = os.environ[_DIRECTORY]
    _add_cpu_seconds(Path(directory), cpu_seconds)
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has types in part
    with _lock_file(directory) as lock:
        if _try_lock(lock):
            # Where the disk is full, or the process ended while it made a file (half of one is no text either), its files
            # stay, and count as before.
            with contextlib.suppress(OSError, RuntimeError, ValueError, struct.error):
                _merge(Path(directory), pid)


def _add_cpu_seconds(directory: Path, seconds: float) -> None:
    """Add to the CPU time of processes that have ended. Only the process that starts the others does so, without a lock."""
    new = directory / f"{_DEAD_CPU}.new"
    # Where the disk is full, the time is missing.
    with contextlib.suppress(OSError):
        new.write_text(f"{_dead_cpu_seconds(directory) + seconds!r}\n", encoding="ascii")
        new.replace(directory / _DEAD_CPU)


def _dead_cpu_seconds(directory: Path) -> float:
    """Return the CPU time of processes that have ended."""
    try:
        return float(Path(directory, _DEAD_CPU).read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0.0


def _lock_file(directory: str) -> IO[bytes]:
    return Path(directory, "lock").open("ab")


def _try_lock(lock: IO[bytes]) -> bool:
    """Lock the numbers for writing; False when readers take too long, as this process must not wait for them."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        else:
            return True
    return False


def _merge(directory: Path, pid: int) -> None:
    """Add what a process has counted to the files of all that have ended. With files of its own for each of them, every
    scrape would cost more. Raises OSError when there is no room; all files are as they were then.
    """
    for kind in _SUMMED_KINDS:
        path, total = directory / f"{kind}_{pid}.db", directory / f"{kind}_{_DEAD}.db"
        if not path.exists():
            continue
        counts: dict[str, float] = {}
        for file in filter(Path.exists, (total, path)):
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]  # as above
                counts[key] = counts.get(key, 0.0) + value
        _replace_file(total, counts)
        path.unlink()


def _replace_file(path: Path, counts: Mapping[str, float]) -> None:
    """Replace a file of numbers."""
    new = path.with_suffix(".new")
    size = sum(len(key.encode()) + _ENTRY_BYTES for key in counts)
    # Where the disk is full this is an error; a write into mapped memory would end the process.
    new.write_bytes(bytes(max(size, _MIN_FILE_BYTES)))
    numbers = MmapedDict(str(new))  # type: ignore[no-untyped-call]  # as above
    for key, value in counts.items():
        numbers.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # as above
    numbers.close()  # type: ignore[no-untyped-call]  # as above
    new.replace(path)


class _ProcessMetrics(Collector):
    """What the system knows of all processes that share their numbers, as of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Sums; of limits and times of start, the least."""
        pids = {path.stem.rpartition("_")[2] for path in self._directory.glob("gauge_live*.db")}
        metrics_by_name: dict[str, list[Metric]] = {}
        for pid in pids:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                metrics_by_name.setdefault(metric.name, []).append(metric)
        for metrics in metrics_by_name.values():
            is_cpu = metrics[0].name == _CPU
            yield _join(metrics, _dead_cpu_seconds(self._directory) if is_cpu else 0.0)


_MINIMUM_METRICS = frozenset({"process_max_fds", "process_start_time_seconds"})


def _join(metrics: list[Metric], addition: float = 0.0) -> Metric:
    first = metrics[0]
    numbers = [sample.value for metric in metrics for sample in metric.samples]
    value = min(numbers) if first.name in _MINIMUM_METRICS else sum(numbers) + addition
    first.samples = [first.samples[0]._replace(value=value)]
    return first
