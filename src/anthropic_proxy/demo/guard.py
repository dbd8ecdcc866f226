"""Run child processes that cannot outlive this process, even if it is killed.

Each child is started by a small guard process (this module, run as a program), which reads a pipe
from this process. The pipe ends when this process closes it or exits, even by SIGKILL. Then the
guard stops its child and exits.

Guard and child have their own session, so that Ctrl-C in the terminal reaches only this process,
which stops them in order. The child writes to a file, because a full pipe would block it.
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

# Variables that a child inherits. Others may contain keys, model names or proxies of the user.
INHERITED_VARIABLES = frozenset(
    {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR"}
)

ProgressCallback = Callable[[float], None]
Result = TypeVar("Result")


class ChildError(RuntimeError):
    """A child exited or did not become ready.

    The first line of the text is the reason. The other lines are the end of the child's output.
    """


class ChildProcess:
    """A running child. `run_child` starts and stops it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    def read_output(self) -> str:
        """Return the output of the child so far (stdout and stderr)."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def create_error(self, outcome: str) -> ChildError:
        """Return an error with the reason and the end of the child's output."""
        tail = self.read_output().splitlines()[-TAIL_LINES:] or ["(no output)"]
        lines = [f"{self.name} {outcome}; end of its output:", *tail]
        return ChildError("\n    ".join(lines))

    def check(self) -> None:
        """Raise ChildError if the child has exited."""
        code = self._process.poll()
        if code is not None:
            raise self.create_error(f"exited with code {code}")

    def wait_for(
        self,
        probe: Callable[[], Result | None],
        timeout: float,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Call `probe` until it returns a value other than None, and return the value.

        timeout: in seconds. progress: called with the seconds waited so far. Raises ChildError.
        """
        started_at = time.monotonic()
        while (result := probe()) is None:
            self.check()
            waited = time.monotonic() - started_at
            if waited > timeout:
                raise self.create_error(f"was not ready after {timeout:g} s")
            if progress is not None:
                progress(waited)
            time.sleep(POLL_SECONDS)
        return result

    def stop(self) -> None:
        """Close the pipe, and wait until guard and child have exited."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        # Signals are needed if a forked process has a copy of the pipe, which keeps it open.
        for send_signal in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(GRACE_SECONDS + 2)
            except subprocess.TimeoutExpired:
                send_signal()
        self._process.wait()


@contextmanager
def run_child(
    name: str,
    command: Sequence[str],
    directory: Path,
    extra: Mapping[str, str],
    log: Path | None = None,
) -> Iterator[ChildProcess]:
    """Run `python -m COMMAND` in `directory` until the block ends.

    name: name of the child in messages. extra: variables in addition to those of
    `child_environment`. log: file for the output, by default one in `directory`.
    """
    python = [sys.executable, "-m"]
    log = log or directory / "output.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - this interpreter and modules of this package
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
    """Return the environment of a child: INHERITED_VARIABLES, and the import path of this process.

    The import path is needed because the child runs in another directory.
    """
    environment = {name: variables[name] for name in INHERITED_VARIABLES & variables.keys()}
    import_path = [str(Path(entry).absolute()) for entry in sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(import_path)
    return environment


def run_guarded(command: Sequence[str]) -> int:
    """Run `command` until it exits or standard input ends.

    Return its exit code, or 128 + n after signal n.
    """
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
