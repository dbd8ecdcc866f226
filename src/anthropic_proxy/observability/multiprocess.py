"""Combine the metrics of several processes.

The processes share their values in files. prometheus_client merges them, so that any process can
serve a scrape. This module adds up the system metrics (CPU, memory) of all processes, and the files
of ended processes.
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

# Kinds of metrics that keep the values of ended processes.
_SUMMED_KINDS = ("counter", "histogram", "summary")
# Replaces the PID in the file names of ended processes.
_DEAD = "dead"

# Minimum size of a file of values.
_MIN_FILE_BYTES = 1 << 16
# Size of an entry without its key.
_ENTRY_BYTES = 32

# File with the CPU time of ended processes.
_DEAD_CPU = "dead_cpu_seconds"
# Name of the metric. Its samples have the suffix `_total`.
_CPU = "process_cpu_seconds"

_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.01


def share_metrics(directory: str) -> None:
    """Share the values of this process and its children in files in `directory`.

    Call this before Metrics is created.
    """
    os.environ[_DIRECTORY] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # partly typed


def metric_factories(
    registry: CollectorRegistry,
) -> tuple[Callable[..., Histogram], Callable[..., Counter], Callable[..., Gauge]]:
    """Return functions that create histograms, counters and gauges in `registry`.

    By default, the gauges of several processes are added up.
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
    """Return the metrics of all processes, or `local_registry` if they are not shared."""
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
    """Lock the shared values, so that no other process merges files during a scrape."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        yield
        return
    with _lock_file(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def retire_process(pid: int, cpu_seconds: float = 0.0) -> None:
    """Keep the counters of an ended process, and drop its gauges.

    cpu_seconds: CPU time of the process. Without it, the total CPU time would decrease, which
    Prometheus interprets as a restart.
    """
    directory = os.environ[_DIRECTORY]
    _add_cpu_seconds(Path(directory), cpu_seconds)
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # as above
    with _lock_file(directory) as lock:
        if _try_lock(lock):
            # Keep the files if the disk is full or the process exited while it created a file.
            # Their values still count.
            with contextlib.suppress(OSError, RuntimeError, ValueError, struct.error):
                _merge(Path(directory), pid)


def _add_cpu_seconds(directory: Path, seconds: float) -> None:
    """Add to the CPU time of ended processes. Needs no lock: only the parent process calls it."""
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
    """Lock the values for writing. Return False if readers take too long."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _merge(directory: Path, pid: int) -> None:
    """Add the counters of a process to the files of all ended processes.

    Separate files for each ended process would make scrapes slower. Raises OSError if the disk is
    full; all files are unchanged then.
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
    """Replace a file of values atomically."""
    new = path.with_suffix(".new")
    size = sum(len(key.encode()) + _ENTRY_BYTES for key in counts)
    # On a full disk this raises OSError, but a write to mapped memory would kill the process.
    new.write_bytes(bytes(max(size, _MIN_FILE_BYTES)))
    numbers = MmapedDict(str(new))  # type: ignore[no-untyped-call]  # as above
    for key, value in counts.items():
        numbers.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # as above
    numbers.close()  # type: ignore[no-untyped-call]  # as above
    new.replace(path)


class _ProcessMetrics(Collector):
    """System metrics of all processes that share their values."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield the sum of each metric, or the minimum for limits and start times."""
        pids = {path.stem.rpartition("_")[2] for path in self._directory.glob("gauge_live*.db")}
        metrics_by_name: dict[str, list[Metric]] = {}
        for pid in pids:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                metrics_by_name.setdefault(metric.name, []).append(metric)
        for name, metrics in metrics_by_name.items():
            # Each metric has one sample.
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
