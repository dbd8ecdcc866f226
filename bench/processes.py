"""Start and stop the measured processes, and read their CPU time and memory."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_TIMEOUT = 60


@dataclass
class MeasuredProcess:
    """A running server."""

    pid: int
    url: str
    # Seconds until the server listened.
    startup_seconds: float

    def cpu(self) -> float:
        """Return the CPU seconds of the process and its children."""
        return sum(_read_cpu(pid) for pid in self._pids())

    def memory(self) -> int:
        """Return the memory of the process and its children in bytes (PSS)."""
        return sum(_read_pss(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def _read_cpu(pid: int) -> float:
    # The second field, the command name in parentheses, may contain any character.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _read_pss(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def allow_files(count: int) -> bool:
    """Raise the limit of open files to `count`; return False if the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= count
    if enough and soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return enough


@contextmanager
def run_program(module: str, *arguments: str) -> Iterator[MeasuredProcess]:
    """Run a module that prints its port when it listens, until the block ends."""
    started_at = time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, f"{module} did not start"
            yield MeasuredProcess(
                process.pid, f"http://127.0.0.1:{port}", time.monotonic() - started_at
            )
        finally:
            process.kill()


@contextmanager
def run_proxy(upstream: str, **variables: str) -> Iterator[MeasuredProcess]:
    """Run anthropic-proxy in front of an upstream, until the block ends."""
    settings = {
        "UPSTREAM_BASE_URL": f"{upstream}/v1",
        "UPSTREAM_PROVIDER": "generic",
        "HOST": "127.0.0.1",
        "LOG_FORMAT": "json",
        "PATH": os.environ["PATH"],
        **variables,
    }
    started_at = time.monotonic()
    command = [sys.executable, "-m", "anthropic_proxy", "-p", "0"]
    with subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        match = None
        while not match:
            line = process.stderr.readline()
            assert line, "anthropic-proxy did not start"
            match = re.search(r'"address":"([^"]+)"', line)
        startup_seconds = time.monotonic() - started_at
        # The server continues to log, so a process must read the pipe.
        with subprocess.Popen(
            ["cat"],  # noqa: S607 - a system command
            stdin=process.stderr,
            stdout=subprocess.DEVNULL,
        ):
            try:
                yield MeasuredProcess(process.pid, match[1], startup_seconds)
            finally:
                process.terminate()
                process.wait(_TIMEOUT)


def run_load(task: dict[str, Any]) -> dict[str, Any]:
    """Run a task in the load generator (`bench.load`), and return its results."""
    command = [sys.executable, "-m", "bench.load"]
    process = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout)
    return result


class HoldingClients(MeasuredProcess):
    """A load generator that holds streams open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__(process.pid, "", 0)
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def events(self) -> int:
        """Return the number of events received so far."""
        self._stdin.write("\n")
        self._stdin.flush()
        return int(self._stdout.readline())


@contextmanager
def hold_load(task: dict[str, Any]) -> Iterator[HoldingClients]:
    """Hold streams open until the block ends. All streams have started when it begins."""
    command = [sys.executable, "-m", "bench.load"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        try:
            assert process.stdout.readline().strip() == "open", "the streams were not opened"
            yield HoldingClients(process)
        finally:
            process.kill()
