"""Child processes that can't outlive us, however we end.

Each child runs below a small guard process (this module as a program) that does nothing but hold the reading end of a
pipe of ours. When the pipe ends, because we closed it or because we died by any signal, the guard stops its child and
goes. So no signal handler has to be perfect, and nothing is left to clean up after a SIGKILL.
Guard and child have a session of their own: Ctrl-C in the terminal reaches us alone, and we decide what stops when.
What the child prints goes to a file, not to a pipe: a pipe that nobody reads would block it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

GRACE_SECONDS = 3.0
POLL_SECONDS = 0.03
TAIL_LINES = 12

# All that a child inherits of our environment. A list of what to keep, since what to drop (keys, model names, proxies
# of the user) has no end.
INHERITED_VARIABLES = frozenset(
    {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR"}
)

ProgressCallback = Callable[[float], None]
Result = TypeVar("Result")


class ChildError(RuntimeError):
    """A child ended or never got ready. The first line says which and how, the next ones are the end of its output."""


class ChildProcess:
    """One running child. `run_child` makes and stops it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    def output(self) -> str:
        """All that the child has printed so far, on stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def to_error(self, outcome: str) -> ChildError:
        """The error to raise for this child, with its last output."""
        tail = self.output().splitlines()[-TAIL_LINES:] or ["nothing"]
        return ChildError(
            "\n    ".join([f"{self.name} {outcome}; the last that it printed:", *tail])
        )

    def check(self) -> None:
        """Raise ChildError when the child has ended."""
        if (code := self._process.poll()) is not None:
            raise self.to_error(f"ended with code {code}")

    def wait_for(
        self,
        probe: Callable[[], Result | None],
        timeout: float,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Call `probe` until it returns a value, and return that.

        `timeout` is in seconds; `progress` is told the seconds waited so far before each call. Raises ChildError.
        """
        started_at = time.monotonic()
        while (result := probe()) is None:
            self.check()
            waited = time.monotonic() - started_at
            if waited > timeout:
                raise self.to_error(f"was not ready after {timeout:g} s")
            if progress is not None:
                progress(waited)
            time.sleep(POLL_SECONDS)
        return result

    def stop(self) -> None:
        """End the pipe and wait until guard and child are gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        # A copy of the pipe in a process forked from us would hide its end: then signals have to do.
        for insist in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(GRACE_SECONDS + 2)
            except subprocess.TimeoutExpired:
                insist()
        self._process.wait()


@contextmanager
def run_child(
    name: str, command: Sequence[str], directory: Path, extra: Mapping[str, str]
) -> Iterator[ChildProcess]:
    """Run `python -m COMMAND` in `directory` with a clean environment plus `extra`, and stop it at the end.

    `name` is what messages call it; its output goes to a file in `directory`.
    """
    python = [sys.executable, "-m"]
    log = directory / "output.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own modules
            [*python, __name__, *python, *command],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**child_environment(os.environ), **extra},
            start_new_session=True,
        )
    child = ChildProcess(name, process, log)
    try:
        yield child
    finally:
        child.stop()


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables for a child: KEPT_VARIABLES, and our own import path, since the child runs in another directory."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {name: value for name, value in variables.items() if name in INHERITED_VARIABLES} | {
        "PYTHONPATH": path
    }


def run_guarded(command: Sequence[str]) -> int:
    """Run `command` until it ends or our standard input does. Returns its exit code, 128 + n after signal n."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - from `run_child`
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_stop_at_end_of_input, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _stop_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(run_guarded(sys.argv[1:]))
