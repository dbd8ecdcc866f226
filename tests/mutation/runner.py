"""Run the tests against a mutant, in processes forked from a server that imported the libraries.

Each worker has a copy of the package, in front of the real one on the import path.
The working tree does not change.
"""

import compileall
import contextlib
import enum
import multiprocessing
import os
import py_compile
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import hypothesis
import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.project import Project

# Libraries that take long to import. The package itself is imported anew each time.
_PRELOADED = [
    "aiohttp",
    "httpx",
    "hypercorn.asyncio",
    "hypothesis",
    "orjson",
    "prometheus_client",
    "pydantic",
]
_PRELOADED += ["pydantic_settings", "pypdf", "pytest", "quart", "structlog", "yaml"]

# A mutant may loop endlessly and allocate memory. A test uses some seconds of CPU time, which may
# be minutes on a busy machine: only endless waits reach the other two limits.
_CPU_SECONDS_PER_TEST = 120
_SECONDS_PER_TEST = 900
_SECONDS_PER_RUN = 3600
_BYTES = 8 << 30

# The exit code that multiprocessing reports for a process whose server died.
_SERVER_GONE = 255

_OPTIONS = ["-x", "-q", "--no-cov", "-p", "no:cacheprovider"]
# pytest's dump of a hanging test can crash the process while the test still runs.
_OPTIONS += ["-o", "faulthandler_timeout=0"]
# Rewritten asserts only explain failures.
_OPTIONS += [f"--timeout={_SECONDS_PER_TEST}", "--assert=plain", "--no-header", "--tb=short"]


class Outcome(enum.Enum):
    """The result of one run of tests."""

    PASSED = enum.auto()
    FAILED = enum.auto()
    # pytest collected no test.
    EMPTY = enum.auto()
    # The process ended without a result of pytest: by a signal, or with the server that forked it.
    CRASHED = enum.auto()


class Verdict(enum.Enum):
    """The result of all tests of one mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    # The tests did not run as they should, so that they prove nothing about the mutant.
    ERROR = "ERROR"


@contextlib.contextmanager
def forking() -> Iterator[ForkServerContext]:
    """Return a context whose processes begin with the libraries imported."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    yield context


class Runner:
    """Runs tests against one copy of the package."""

    def __init__(self, context: ForkServerContext, project: Project, folder: Path) -> None:
        self._context = context
        self._project = project
        self._folder = folder
        self._copy = folder / "src"
        shutil.copytree(project.root / "src" / project.package, self._copy / project.package)
        # Python compares this bytecode by the hash of the source: it compiles changed modules only.
        compileall.compile_dir(
            self._copy, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )

    def run(self, tests: list[str]) -> Outcome:
        """Run these tests. A run that exceeds its time limit is a failed one."""
        process = self._context.Process(
            target=_run_tests,
            args=(
                self._project.root,
                self._folder,
                [*_OPTIONS, f"--rootdir={self._project.root}", *tests],
            ),
        )
        process.start()
        process.join(_SECONDS_PER_RUN)
        if process.is_alive():
            process.kill()
            process.join()
            return Outcome.FAILED
        assert process.exitcode is not None
        return _outcome(process.exitcode)

    def judge(self, mutant: Mutant) -> Verdict:
        """Run the tests of the module first, then the others, until one fails."""
        changed = self._copy / Path(mutant.file).relative_to("src")
        original = changed.read_text("utf-8")
        changed.write_text(mutant.source, "utf-8")
        try:
            return self._judge_stages(self._project.stages(mutant.file))
        finally:
            changed.write_text(original, "utf-8")

    def _judge_stages(self, stages: list[list[str]]) -> Verdict:
        for number, tests in enumerate(stages):
            outcome = self.run(tests)
            if outcome is Outcome.FAILED:
                return Verdict.KILLED
            # The tests that remain after those of the first stage may be none.
            is_empty_at_first = outcome is Outcome.EMPTY and number == 0
            if is_empty_at_first or outcome is Outcome.CRASHED:
                return Verdict.ERROR
        return Verdict.SURVIVED

    @property
    def output(self) -> str:
        """Return what pytest printed in the last run."""
        return (self._folder / "output.txt").read_text("utf-8")


def _outcome(exit_code: int) -> Outcome:
    if exit_code < 0 or exit_code == _SERVER_GONE:
        return Outcome.CRASHED
    match exit_code:
        case pytest.ExitCode.OK:
            return Outcome.PASSED
        case pytest.ExitCode.NO_TESTS_COLLECTED:
            return Outcome.EMPTY
    return Outcome.FAILED


def _run_tests(root: Path, folder: Path, arguments: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    _without_shrinking()
    os.chdir(root)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Python compares bytecode that it writes by size and second: it could take a mutant for
    # the module as it was a moment ago.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder / "src"))
    sys.exit(pytest.main(arguments, [CpuLimit(_CPU_SECONDS_PER_TEST)]))


class CpuLimit:
    """A plugin of pytest: a test, or the collection, fails when it uses too much CPU time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        signal.signal(signal.SIGPROF, self._fail)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        with self._limited():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        with self._limited():
            return (yield)

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _fail(self, *_: object) -> None:
        pytest.fail(f"more than {self._seconds} seconds of CPU time")


def _without_shrinking() -> None:
    """Let hypothesis stop at the first failing example.

    A profile that the tests load inherits this.
    """
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", phases=phases, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
