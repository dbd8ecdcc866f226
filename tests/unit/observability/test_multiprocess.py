"""Numbers that several processes share: none is lost with a process, and none costs more for it."""

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
    """Counts something as the process with a PID."""
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


def _numbers() -> dict[str, float]:
    with multiprocess.lock_for_reading():
        text = generate_latest(multiprocess.collect_all(CollectorRegistry())).decode()
    lines = [
        line.rsplit(" ", 1) for line in text.splitlines() if re.match("requests|seconds|busy", line)
    ]
    return {name: float(value) for name, value in lines}


def _files(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.db")}


def test_processes_that_ended_share_one_file_of_each_kind(tmp_path: Path, process: Process) -> None:
    for pid in range(1, 21):
        process(pid)
    before = _numbers()
    assert before['requests_total{model="m1"}'] == 30
    assert (before['seconds_bucket{le="1.0"}'], before["seconds_count"], before["seconds_sum"]) == (
        0,
        20,
        30,
    )
    assert before["busy"] == 20
    for pid in range(1, 20):
        multiprocess.retire_process(pid)
    assert _numbers() == before | {"busy": 1}
    assert _files(tmp_path) == {
        f"{kind}_{of}.db" for kind in ("counter", "histogram") for of in ("dead", "20")
    } | {"gauge_livesum_20.db"}
    multiprocess.retire_process(20)
    multiprocess.retire_process(21)
    assert _numbers() == {name: value for name, value in before.items() if name != "busy"}


def test_a_full_disk_loses_nothing(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (1, 2):
        process(pid)
    before = _numbers()
    monkeypatch.setattr(Path, "write_bytes", mock.Mock(side_effect=OSError(errno.ENOSPC, "full")))
    multiprocess.retire_process(1)
    assert _numbers() == before | {"busy": 1}


# As prometheus_client writes it: how much is used, and an entry, whose key is no UTF-8 here.
_NO_TEXT = struct.pack("<ii", 40, 0) + struct.pack("<i", 12) + b"\xff" * 12 + bytes(16)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\x00\x00" * 4, _NO_TEXT], ids=["empty", "cut", "no text"]
)
def test_a_file_that_was_not_finished_stops_nothing(
    tmp_path: Path, process: Process, content: bytes
) -> None:
    process(1)
    (tmp_path / "counter_1.db").write_bytes(content)
    multiprocess.retire_process(1)
    assert (tmp_path / "counter_1.db").exists()


def test_many_numbers_fit_in_the_file(tmp_path: Path, process: Process) -> None:
    labels = "x" * 997
    for pid in (1, 2):
        process(pid)
        registry = CollectorRegistry()
        for number in range(100):
            multiprocess.metric_factories(registry)[1](
                f"requests_{number}", "Requests.", ("model",)
            ).labels(labels).inc()
    before = _numbers()
    multiprocess.retire_process(1)
    multiprocess.retire_process(2)
    assert _numbers() == {name: value for name, value in before.items() if name != "busy"}
    assert len(before) > 100


def test_a_reader_that_does_not_end_stops_nothing(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_LOCK_PAUSE_SECONDS", 0)
    process(1)
    before = _numbers()
    reader = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    multiprocess.retire_process(1)
    assert _numbers() == {name: value for name, value in before.items() if name != "busy"}
    assert "counter_1.db" in _files(tmp_path)
    os.close(reader)
    multiprocess.retire_process(1)
    assert "counter_1.db" not in _files(tmp_path)


def test_cpu_time_outlives_its_process(process: Process) -> None:
    """Else its sum would fall, which Prometheus takes for a restart."""

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
