"""Metrics of several processes are combined, and remain after a process ends."""

import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.exposition import generate_latest

from anthropic_proxy.observability import multiprocess

Process = Callable[[int], None]


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """Return a function that records metrics as the process with the given PID."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def run(pid: int) -> None:
        # The library is untyped.
        value_class = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]
        monkeypatch.setattr(values, "ValueClass", value_class)
        registry = CollectorRegistry()
        histogram, counter, gauge = multiprocess.metric_factories(registry)
        counter("requests", "Requests.", ("model",)).labels(f"m{pid % 2}").inc(3)
        histogram("seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
        gauge("busy", "Busy.").set(1)

    return run


def _read_metrics() -> dict[str, float]:
    with multiprocess.lock_for_reading():
        text = generate_latest(multiprocess.collect_all(CollectorRegistry())).decode()
    lines = [
        line.rsplit(" ", 1) for line in text.splitlines() if re.match("requests|seconds|busy", line)
    ]
    return {name: float(value) for name, value in lines}


def _files(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.db")}


def test_retired_processes_share_one_file_per_metric_type(tmp_path: Path, process: Process) -> None:
    for pid in range(1, 21):
        process(pid)
    before = _read_metrics()
    assert before['requests_total{model="m1"}'] == 30
    assert (before['seconds_bucket{le="1.0"}'], before["seconds_count"], before["seconds_sum"]) == (
        0,
        20,
        30,
    )
    assert before["busy"] == 20
    for pid in range(1, 20):
        multiprocess.retire_process(pid)
    assert _read_metrics() == before | {"busy": 1}
    assert _files(tmp_path) == {
        f"{kind}_{owner}.db" for kind in ("counter", "histogram") for owner in ("dead", "20")
    } | {"gauge_livesum_20.db"}
    multiprocess.retire_process(20)
    multiprocess.retire_process(21)
    assert _read_metrics() == {name: value for name, value in before.items() if name != "busy"}


def test_metrics_are_kept_on_a_full_disk(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (1, 2):
        process(pid)
    before = _read_metrics()
    monkeypatch.setattr(Path, "write_bytes", mock.Mock(side_effect=OSError(errno.ENOSPC, "full")))
    multiprocess.retire_process(1)
    assert _read_metrics() == before | {"busy": 1}


# The format of prometheus_client: used bytes and one entry, here with a key that is not UTF-8.
_INVALID_UTF8 = struct.pack("<ii", 40, 0) + struct.pack("<i", 12) + b"\xff" * 12 + bytes(16)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\x00\x00\x00" * 4, _INVALID_UTF8],
    ids=["empty", "truncated", "invalid-utf-8"],
)
def test_an_invalid_file_is_kept(tmp_path: Path, process: Process, content: bytes) -> None:
    process(1)
    (tmp_path / "counter_1.db").write_bytes(content)
    multiprocess.retire_process(1)
    assert (tmp_path / "counter_1.db").exists()


def test_many_metrics_fit_in_the_file(tmp_path: Path, process: Process) -> None:
    labels = "x" * 997
    for pid in (1, 2):
        process(pid)
        registry = CollectorRegistry()
        for number in range(100):
            multiprocess.metric_factories(registry)[1](
                f"requests_{number}", "Requests.", ("model",)
            ).labels(labels).inc()
    before = _read_metrics()
    multiprocess.retire_process(1)
    multiprocess.retire_process(2)
    assert _read_metrics() == {name: value for name, value in before.items() if name != "busy"}
    assert len(before) > 100


def test_a_stalled_reader_does_not_block_retirement(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_LOCK_PAUSE_SECONDS", 0)
    process(1)
    before = _read_metrics()
    reader = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    multiprocess.retire_process(1)
    assert _read_metrics() == {name: value for name, value in before.items() if name != "busy"}
    assert "counter_1.db" in _files(tmp_path)
    os.close(reader)
    multiprocess.retire_process(1)
    assert "counter_1.db" not in _files(tmp_path)


def test_cpu_time_is_kept_after_its_process_ends(process: Process) -> None:
    """Prometheus would treat a lower sum as a restart."""

    def cpu() -> float:
        text = generate_latest(multiprocess.collect_all(CollectorRegistry())).decode()
        (line,) = (
            line for line in text.splitlines() if line.startswith("process_cpu_seconds_total ")
        )
        return float(line.split()[1])

    process(os.getpid())
    process(1)
    multiprocess.retire_process(1, 1000.5)
    multiprocess.retire_process(2, 0.25)
    assert cpu() >= 1000.75
    assert cpu() < 2000
