"""Run the tests against a mutant, in processes that are forked where the libraries are imported already.

Each worker has a copy of the package, in front of the real one on the import path. The working tree does not change.
"""

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import hypothesis
import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.project import Project

# What starting pytest and importing the package costs most for. Not the package itself: it is imported anew each time.
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

# A mutant may loop without end, and allocate memory meanwhile. Tests take a few seconds at most, also on a busy machine.
_SECONDS_PER_TEST = 60
_SECONDS_PER_RUN = 1200
_BYTES = 4 << 30

_OPTIONS = ["-x", "-q", "--no-cov", "-p", "no:cacheprovider"]
# Rewritten asserts only explain failures.
_OPTIONS += [f"--timeout={_SECONDS_PER_TEST}", "--assert=plain", "--no-header", "--tb=short"]

# The tests that remain after others were run may be none.
_PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


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

    def passes(self, tests: list[str]) -> bool:
        """Run these tests, and return whether all pass."""
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
        return process.exitcode in _PASSED

    def kills(self, mutant: Mutant) -> bool:
        """Return whether a test fails: those of the module are run first, then the others."""
        changed = self._copy / Path(mutant.file).relative_to("src")
        original = changed.read_text("utf-8")
        changed.write_text(mutant.source, "utf-8")
        try:
            return not all(self.passes(tests) for tests in self._project.stages(mutant.file))
        finally:
            changed.write_text(original, "utf-8")

    @property
    def output(self) -> str:
        """Return what pytest printed in the last run."""
        return (self._folder / "output.txt").read_text("utf-8")


def _run_tests(root: Path, folder: Path, arguments: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    _without_shrinking()
    os.chdir(root)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Bytecode is recognized by size and second: a mutant could be taken for the module as it was a moment ago.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder / "src"))
    sys.exit(pytest.main(arguments))


def _without_shrinking() -> None:
    """Let hypothesis stop at the first failing example. A profile that the tests load inherits this."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", phases=phases, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
