"""Mutants of small modules, and the complete command on a small project."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import Mutants
from tests.mutation.project import EQUIVALENTS, PURE_PACKAGES, Project
from tests.mutation.runner import CpuLimit, Outcome, Runner, Verdict
from tests.support.paths import ROOT

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a == b", {"a != b"}),
        ("(a) < (b)", {"(a) <= (b)"}),
        ("a is not b", {"a is b"}),
        ("a not in b", {"a in b"}),
        ("a + b", {"a - b"}),
        ("a and b", {"a or b", "True and b", "a and True"}),
        ("a or b", {"a and b", "False or b", "a or False"}),
        ("not a", {"a"}),
        ("-a", {"a"}),
        ("a if b else c", {"a if True else c", "a if False else c"}),
        ("[a for a in b if c]", {"[a for a in b if True]", "[a for a in b if False]"}),
        ("x = True", {"x = False"}),
        ("x = 7", {"x = 8"}),
        ("x = 'name'", {"x = ''"}),
        ("x = ''", {"x = 'X'"}),
        ("x = b'name'", {"x = b''"}),
        ("x = 'some words'", set()),
        ("x = f'{1}name'", set()),
        ("x = {a, b}", {"x = {b}", "x = {a}"}),
        ("x = [a]", set()),
        ("x = {a: b}", {"x = {}"}),
        ("x = a(b, c=d)", {"x = a(b)"}),
        ("x = a(b=c, d=e)", {"x = a(d=e)", "x = a(b=c)"}),
        ("a()", {"pass"}),
        ("a.b = c", {"pass"}),
        ("a, b = c", set()),
        ("x: Literal['a'] = b", set()),
        ("x = Literal['a', 'b']", set()),
        ('"""One-word"""', set()),
        ("__all__ = ['a', 'b']", set()),
        ("raise a", {"pass"}),
        ("é = 'ü', 1", {"é = '', 1", "é = 'ü', 2", "é = 1", "é = 'ü'"}),
    ],
)
def test_mutants_are_created(source: str, expected: set[str]) -> None:
    mutants = Mutants("a.py", source).at(1)
    # A bare expression is a statement, which can also be removed.
    assert {mutant.after for mutant in mutants} - {"pass"} == expected - {"pass"}
    assert expected <= {mutant.after for mutant in mutants}


def test_a_mutant_has_its_position() -> None:
    source = "class A:\n  def b(self):\n    for c in self:\n      if c:\n        break\n"
    mutants = Mutants("a.py", source)
    assert mutants.lines == [4, 5]
    (mutant,) = mutants.at(5)
    assert (mutant.line, mutant.identity) == (5, ("a.py", "A.b", "break", "continue"))
    assert mutant.source == source.replace("break", "continue")


_MODULE = "def largest(a, b):\n    return a if a > b else b\n"
_TEST = """
from tiny.core.numbers import largest

def test_largest():
    assert largest(1, 2) == 2
"""
_BOTH_WAYS = _TEST + "    assert largest(2, 1) == 2\n"
_EQUIVALENT = {
    "file": "src/tiny/core/numbers.py",
    "function": "largest",
    "before": "return a if a > b else b",
    "after": "return a if a >= b else b",
    "reason": "either of two equal numbers is the largest",
}


_CRASHES = """
import os
from tiny.core.numbers import largest

def test_crashes():
    if (largest(1, 2), largest(2, 1)) != (2, 2):
        os.abort()
"""


def _write_project(root: Path, tests: str, equivalents: list[dict[str, str]]) -> None:
    for path, text in {
        "src/tiny/core/numbers.py": _MODULE,
        "tests/unit/core/test_numbers.py": tests,
        "equivalents.json": json.dumps(equivalents),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def _run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutation", "--root", str(root), "--package", "tiny"]
    command += ["--areas", "core", "--equivalents", str(root / "equivalents.json"), *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("tests", "code", "output"),
    [
        (_BOTH_WAYS, 0, "seed 3: 1 of 1 mutants killed, 100.0 %"),
        ("def test_nothing():\n    pass\n", 1, "seed 3: 0 of 1 mutants killed, 0.0 %"),
        (_CRASHES, 1, "seed 3: 0 of 1 mutants killed, 0.0 %\n1 of them could not be judged"),
        (_BOTH_WAYS + "    assert largest(1, 1) == 2\n", 2, "the tests fail without a mutant"),
    ],
    ids=["all-killed", "survivor", "crash", "failing-tests"],
)
def test_the_command_prints_the_score(tmp_path: Path, tests: str, code: int, output: str) -> None:
    _write_project(tmp_path, tests, [_EQUIVALENT])
    result = _run(tmp_path, "--seed", "3", "--workers", "1")
    assert (result.returncode, result.stderr) == (code, "")
    assert output in result.stdout
    if code == 1:
        verdict = "ERROR" if "could not be judged" in output else "SURVIVED"
        assert f"{verdict} src/tiny/core/numbers.py:2: largest\n  - return a if" in result.stdout
    assert (tmp_path / "src/tiny/core/numbers.py").read_text() == _MODULE


class _Process:
    """A process that ended with `exit_code`, or runs until it is killed if that is None."""

    def __init__(self, exit_code: int | None) -> None:
        self.exitcode = exit_code

    def start(self) -> None:
        pass

    def join(self, seconds: float | None = None) -> None:
        pass

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.exitcode = -signal.SIGKILL


class _Context:
    def __init__(self, *exit_codes: int | None) -> None:
        self._exit_codes = iter(exit_codes)

    def Process(self, **_arguments: Any) -> _Process:  # noqa: N802 (multiprocessing's name)
        return _Process(next(self._exit_codes))


def _runner(root: Path, *exit_codes: int | None) -> Runner:
    _write_project(root, _TEST, [])
    context: Any = _Context(*exit_codes)
    return Runner(context, _project(root), root / "copy")


_LOOPS = "def test_loops():\n    while True:\n        pass\n"


def test_an_endless_test_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_LOOPS)
    signals = signal.SIGPROF, signal.getsignal(signal.SIGPROF)
    try:
        result = pytester.inline_run(plugins=[CpuLimit(0.1)])
    finally:
        signal.signal(*signals)
    (failure,) = result.getfailures()
    assert "more than 0.1 seconds of CPU time" in str(failure.longrepr)


@pytest.mark.parametrize(
    ("exit_code", "outcome"),
    [
        (pytest.ExitCode.OK, Outcome.PASSED),
        (pytest.ExitCode.TESTS_FAILED, Outcome.FAILED),
        (pytest.ExitCode.USAGE_ERROR, Outcome.FAILED),
        (pytest.ExitCode.NO_TESTS_COLLECTED, Outcome.EMPTY),
        (-signal.SIGSEGV, Outcome.CRASHED),
        (-signal.SIGKILL, Outcome.CRASHED),
        (255, Outcome.CRASHED),
        (None, Outcome.FAILED),
    ],
)
def test_the_exit_code_determines_the_outcome(
    tmp_path: Path, exit_code: int | None, outcome: Outcome
) -> None:
    assert _runner(tmp_path, exit_code).run(["tests/unit/core"]) is outcome


@pytest.mark.parametrize(
    ("exit_codes", "verdict"),
    [
        ((0, 0, 0), Verdict.SURVIVED),
        ((0, 5, 5), Verdict.SURVIVED),
        ((1,), Verdict.KILLED),
        ((0, 5, 1), Verdict.KILLED),
        ((0, None), Verdict.KILLED),
        ((5,), Verdict.ERROR),
        ((0, -signal.SIGKILL), Verdict.ERROR),
    ],
)
def test_the_exit_codes_determine_the_verdict(
    tmp_path: Path, exit_codes: tuple[int | None, ...], verdict: Verdict
) -> None:
    runner = _runner(tmp_path, *exit_codes)
    (mutant, *_) = Mutants("src/tiny/core/numbers.py", _MODULE).at(2)
    assert runner.judge(mutant) is verdict
    assert (tmp_path / "copy/src/tiny/core/numbers.py").read_text() == _MODULE


def _project(root: Path) -> Project:
    return Project(root, "tiny", ("core",), root / "equivalents.json")


def test_a_seed_selects_one_sample_without_equivalents(tmp_path: Path) -> None:
    _write_project(tmp_path, _TEST, [_EQUIVALENT])
    assert _project(tmp_path).sample(9, 5) == _project(tmp_path).sample(9, 5)
    samples = [_project(tmp_path).sample(9, seed) for seed in range(20)]
    assert all(len(sample) == 1 for sample in samples)
    sources = {sample[0].after for sample in samples}
    assert _EQUIVALENT["after"] not in sources
    assert len(sources) > 1


@pytest.mark.parametrize(
    ("change", "is_outdated"),
    [({}, False), ({"before": "return b"}, True), ({"file": "src/tiny/core/gone.py"}, True)],
)
def test_outdated_equivalents_are_found(tmp_path: Path, change: Any, *, is_outdated: bool) -> None:
    _write_project(tmp_path, _TEST, [_EQUIVALENT | change])
    assert bool(_project(tmp_path).outdated_equivalents()) is is_outdated


def test_the_equivalents_of_the_package_exist() -> None:
    project = Project(ROOT, "anthropic_proxy", PURE_PACKAGES, EQUIVALENTS)
    assert not project.outdated_equivalents()


def test_the_tests_of_the_module_run_first(tmp_path: Path) -> None:
    _write_project(tmp_path, _TEST, [])
    assert _project(tmp_path).stages("src/tiny/core/numbers.py") == [
        ["tests/unit/core/test_numbers.py"],
        ["--ignore=tests/unit/core/test_numbers.py", "tests/unit/core"],
        ["--ignore=tests/unit/core", "tests/unit/core"],
    ]


def test_the_first_stage_has_tests(tmp_path: Path) -> None:
    _write_project(tmp_path, _TEST, [])
    (tmp_path / "tests/unit/core/test_numbers.py").rename(tmp_path / "tests/unit/test_numbers.py")
    assert _project(tmp_path).stages("src/tiny/core/numbers.py") == [["tests/unit/core"]]
