"""Combine the metrics of several processes.

The processes share their numbers in files, which prometheus_client merges for scrapers of any
process. This module sums up the system's metrics of each process (CPU, memory), and the files of
ended processes.
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

# Kinds of metrics whose numbers outlive their process.
_SUMMED_KINDS = ("counter", "histogram", "summary")
# Replaces the PID in the names of files of ended processes.
_DEAD = "dead"

# Of a file of numbers.
_MIN_FILE_BYTES = 1 << 16
# Of an entry, without its key.
_ENTRY_BYTES = 32

# The file with the CPU time of ended processes.
_DEAD_CPU = "dead_cpu_seconds"
# The metric, whose samples have the suffix `_total`.
_CPU = "process_cpu_seconds"

_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.01


def share_metrics(directory: str) -> None:
    """Share the numbers of this process and its children in files of `directory`.

    To be called before Metrics is created.
    """
    os.environ[_DIRECTORY] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # partly typed


def metric_factories(
    registry: CollectorRegistry,
) -> tuple[Callable[..., Histogram], Callable[..., Counter], Callable[..., Gauge]]:
    """Return functions that create histograms, counters and gauges in `registry`.

    Gauges of several processes are summed up by default.
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
    """Return the metrics of all processes, or of this one if it shares none."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        return local_registry
    registry = CollectorRegistry()
    # The constructor registers the collector.
    multiprocess.MultiProcessCollector(  # type: ignore[no-untyped-call]  # as above
        registry, directory
    )
    registry.register(_ProcessMetrics(Path(directory)))
    return registry


@contextlib.contextmanager
def lock_for_reading() -> Iterator[None]:
    """Lock the shared numbers, so that no other process merges files during a scrape."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        yield
        return
    with _lock_file(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def retire_process(pid: int, cpu_seconds: float = 0.0) -> None:
    """Keep the counts of an ended process, and drop its gauges.

    cpu_seconds: its CPU time. Without it the CPU time of all processes would fall, which Prometheus
    takes for a restart.
    """
    directory = os.environ[_DIRECTORY]
    _add_cpu_seconds(Path(directory), cpu_seconds)
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # as above
    with _lock_file(directory) as lock:
        if _try_lock(lock):
            # The files stay, and count as before, if the disk is full or the process ended while it
            # created a file.
            with contextlib.suppress(OSError, RuntimeError, ValueError, struct.error):
                _merge(Path(directory), pid)


def _add_cpu_seconds(directory: Path, seconds: float) -> None:
    """Add to the CPU time of ended processes. Only the parent process does so, without a lock."""
    new = directory / f"{_DEAD_CPU}.new"
    # The time is lost if the disk is full.
    with contextlib.suppress(OSError):
        new.write_text(f"{_dead_cpu_seconds(directory) + seconds!r}\n", encoding="ascii")
        new.replace(directory / _DEAD_CPU)


def _dead_cpu_seconds(directory: Path) -> float:
    """Return the CPU time of ended processes."""
    try:
        return float(Path(directory, _DEAD_CPU).read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0.0


def _lock_file(directory: str) -> IO[bytes]:
    return Path(directory, "lock").open("ab")


def _try_lock(lock: IO[bytes]) -> bool:
    """Lock the numbers for writing. Return False when readers take too long."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _merge(directory: Path, pid: int) -> None:
    """Add the counts of a process to the files of all ended processes.

    Files of its own for each of them would make every scrape slower. Raises OSError, with all files
    unchanged, when the disk is full.
    """
    for kind in _SUMMED_KINDS:
        path, total = directory / f"{kind}_{pid}.db", directory / f"{kind}_{_DEAD}.db"
        if not path.exists():
            continue
        counts: dict[str, float] = {}
        for file in filter(Path.exists, (total, path)):
            read = MmapedDict.read_all_values_from_file
            for key, value, _, _ in read(str(file)):  # type: ignore[no-untyped-call]  # as above
                counts[key] = counts.get(key, 0.0) + value
        _replace_file(total, counts)
        path.unlink()


def _replace_file(path: Path, counts: Mapping[str, float]) -> None:
    """Replace a file of numbers."""
    new = path.with_suffix(".new")
    size = sum(len(key.encode()) + _ENTRY_BYTES for key in counts)
    # On a full disk this raises OSError, while a write into mapped memory would kill the process.
    new.write_bytes(bytes(max(size, _MIN_FILE_BYTES)))
    numbers = MmapedDict(str(new))  # type: ignore[no-untyped-call]  # as above
    for key, value in counts.items():
        numbers.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # as above
    numbers.close()  # type: ignore[no-untyped-call]  # as above
    new.replace(path)


class _ProcessMetrics(Collector):
    """The system's metrics of all processes that share their numbers, summed up."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield the sum of each metric, and the minimum of limits and start times."""
        pids = {path.stem.rpartition("_")[2] for path in self._directory.glob("gauge_live*.db")}
        metrics_by_name: dict[str, list[Metric]] = {}
        for pid in pids:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                metrics_by_name.setdefault(metric.name, []).append(metric)
        for name, metrics in metrics_by_name.items():
            # Each has one sample.
            numbers = [metric.samples[0].value for metric in metrics]
            if name in _MINIMUM_METRICS:
                value = min(numbers)
            else:
                value = sum(numbers)
            if name == _CPU:
                value += _dead_cpu_seconds(self._directory)
            combined = metrics[0]
            combined.samples = [combined.samples[0]._replace(value=value)]
            yield combined


_MINIMUM_METRICS = frozenset({"process_max_fds", "process_start_time_seconds"})
