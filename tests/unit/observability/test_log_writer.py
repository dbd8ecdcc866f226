"""Log writer thread: order of lines, stalled readers, and forks."""

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from anthropic_proxy.observability import log_writer as module
from anthropic_proxy.observability.log_writer import LogWriter
from tests.support.scripted_upstream import DEADLINE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def _note(dropped: int) -> str:
    return f"dropped {dropped}\n"


def _writer(descriptor: int) -> LogWriter:
    return LogWriter(descriptor, "utf-8", _note)


def _read(reader: int, until: bytes) -> bytes:
    """Read until the first line that contains `until`."""
    text = b""
    while until not in text or not text.endswith(b"\n"):
        text += os.read(reader, 65536)
    return text


def _fill(descriptor: int) -> int:
    """Fill a pipe, so that the next write waits for its reader. Return the number of bytes."""
    size = 0
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            size += os.write(descriptor, b"-" * 4096)
    os.set_blocking(descriptor, True)
    return size


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    writer = _writer(pipe[1])
    for number in range(100):
        writer.write(f"line {number} é\ud800\n")
    writer.drain(DEADLINE)
    assert _read(pipe[0], b"line 99").decode() == "".join(
        f"line {number} é\\ud800\n" for number in range(100)
    )


@pytest.mark.parametrize(("limit", "value"), [("MAX_LINES", 10), ("MAX_BYTES", 60_000)])
def test_lines_that_are_not_read_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], limit: str, value: int
) -> None:
    """Every line is read or counted, and the report replaces the dropped lines."""
    monkeypatch.setattr(module, limit, value)
    filler = _fill(pipe[1])
    writer, counted = _writer(pipe[1]), [0]
    sent = [f"{number} ".ljust(5000, "x") for number in range(100)]
    for line in sent[:50]:
        writer.write(line + "\n")
    writer.count_drops(counted.append)
    for line in sent[50:]:
        writer.write(line + "\n")
    writer.drain(0.01)
    received = _read(pipe[0], b"dropped")[filler:].decode().splitlines()
    writer.drain(DEADLINE)
    writer.write("the end\n")
    received += _read(pipe[0], b"the end").decode().splitlines()
    reports = [line for line in received if line.startswith("dropped")]
    assert len(reports) == 1
    dropped = int(reports[0].removeprefix("dropped "))
    assert received == [*sent[: 100 - dropped], *reports, "the end"]
    assert sum(counted) == dropped


@pytest.mark.parametrize("closed", [True, False], ids=["EBADF", "ENOSPC"])
def test_failed_writes_are_reported_after_recovery(pipe: tuple[int, int], *, closed: bool) -> None:
    """The number of lost lines is reported when the descriptor can be written again."""
    descriptor = os.dup(pipe[1]) if closed else os.open("/dev/full", os.O_WRONLY)
    writer = _writer(descriptor)
    if closed:
        os.close(descriptor)
    for _ in range(3):
        writer.write("lost\n")
    writer.drain(DEADLINE)
    os.dup2(pipe[1], descriptor)
    writer.write("works\n")
    assert _read(pipe[0], b"works") == b"dropped 3\nworks\n"
    os.close(descriptor)


def test_lines_are_written_to_a_non_blocking_descriptor(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = _writer(pipe[1])
    lines = [letter * 50_000 + "\n" for letter in "abc"]
    for line in lines:
        writer.write(line)
    writer.drain(0.01)
    assert _read(pipe[0], b"c") == "".join(lines).encode()


def test_each_process_has_its_own_writer_thread(pipe: tuple[int, int]) -> None:
    """After a fork with a pending line, each line of the parent and the child is written once."""
    writer = _writer(pipe[1])
    writer.write("x" * 65_535 + "\n")
    writer.drain(DEADLINE)
    writer.write("parent\n")
    child = os.fork()
    if child == 0:
        writer.write("child\n")
        writer.drain(DEADLINE)
        os._exit(0)
    text = _read(pipe[0], b"x\n")
    assert os.waitpid(child, 0)[1] == 0
    writer.drain(DEADLINE)
    writer.write("the end\n")
    text += _read(pipe[0], b"the end")
    assert sorted(text.splitlines()[1:]) == [b"child", b"parent", b"the end"]


def test_a_forked_process_counts_its_own_drops(pipe: tuple[int, int]) -> None:
    """The parent's drops are not included, and its thread may hold the lock during the fork."""
    writer = _writer(pipe[1])
    writer._total_dropped = 3
    with writer._condition:
        child = os.fork()
        if child == 0:
            counts: list[int] = []
            counter = threading.Thread(target=writer.count_drops, args=[counts.append], daemon=True)
            counter.start()
            counter.join(DEADLINE)
            os._exit(counter.is_alive() or len(counts))
    assert os.waitpid(child, 0)[1] == 0


def test_the_writer_thread_does_not_delay_process_exit(pipe: tuple[int, int]) -> None:
    writer = _writer(pipe[1])
    writer.write("x" * 70_000 + "\n")
    writer.drain(0.01)
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "log"][-1:] == [
        True
    ]
    _read(pipe[0], b"x\n")
