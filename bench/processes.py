"""Processes that are measured: started, asked for what they have used, ended. The system says what that is."""

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
_PATIENCE = 60


@dataclass
class Measured:
    """A running server. started: seconds until it listened."""

    pid: int
    url: str
    started: float

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have used."""
        return sum(_cpu(pid) for pid in self._pids())

    def memory(self) -> int:
        """Bytes that all its processes have, what they share counted once (PSS)."""
        return sum(_pss(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def _cpu(pid: int) -> float:
    # The second field is the command's name, which may hold anything, in brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def allow_files(count: int) -> bool:
    """Let this process and those that it starts have so many open files; False where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= count
    if enough and soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return enough


@contextmanager
def program(module: str, *arguments: str) -> Iterator[Measured]:
    """A program of ours that prints its port when it listens."""
    begun = time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, f"{module} did not start"
            yield Measured(process.pid, f"http://127.0.0.1:{port}", time.monotonic() - begun)
        finally:
            process.kill()


@contextmanager
def proxy(upstream: str, **variables: str) -> Iterator[Measured]:
    """anthropic-proxy, as people run it, in front of an upstream."""
    settings = {
        "UPSTREAM_BASE_URL": f"{upstream}/v1",
        "UPSTREAM_PROVIDER": "generic",
        "HOST": "127.0.0.1",
        "LOG_FORMAT": "json",
        "PATH": os.environ["PATH"],
        **variables,
    }
    begun = time.monotonic()
    command = [sys.executable, "-m", "anthropic_proxy", "-p", "0"]
    with subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        while not found:
            line = process.stderr.readline()
            assert line, "anthropic-proxy did not start"
            found = re.search(r'"address":"([^"]+)"', line)
        started = time.monotonic() - begun
        # Its log goes on, and somebody must read it.
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):  # noqa: S607 - of the system
            try:
                yield Measured(process.pid, found[1], started)
            finally:
                process.terminate()
                process.wait(_PATIENCE)


def load(task: dict[str, Any]) -> dict[str, Any]:
    """What the load generator, a process of its own, has to tell of a task (see `bench.load`)."""
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Held(Measured):
    """A load generator that holds streams open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__(process.pid, "", 0)
        assert process.stdin is not None
        assert process.stdout is not None
        self._asks, self._tells = process.stdin, process.stdout

    def events(self) -> int:
        """Events that it has received in all."""
        self._asks.write("\n")
        self._asks.flush()
        return int(self._tells.readline())


@contextmanager
def loading(task: dict[str, Any]) -> Iterator[Held]:
    """The same with the task `hold`, while something else is looked at: all its streams have begun."""
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
            yield Held(process)
        finally:
            process.kill()
