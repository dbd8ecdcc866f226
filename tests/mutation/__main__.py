"""`make mutation`: measure how many small faults in the pure packages the unit tests find.

    python -m tests.mutation [--sample 100] [--seed 1] [--required 95] [--own-tests]

Prints each mutant that no test finds, and the share of killed mutants.
Exits with 1 if the share is less than required or a listed equivalent no longer exists, and with 2
if the tests fail without a mutant.
A mutant whose tests crash or are not found is an error and does not count as killed.
"""

import argparse
import contextlib
import os
import queue
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.project import EQUIVALENTS, PURE_PACKAGES, Project
from tests.mutation.runner import Outcome, Runner, Verdict, forking

_ROOT = Path(__file__).parents[2]


class TestsFailError(Exception):
    """The tests fail without a mutant. The message is the output of pytest."""


def _judge_all(project: Project, sample: list[Mutant], workers: int) -> list[Verdict]:
    with tempfile.TemporaryDirectory() as temporary, forking() as context:
        runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for number in range(workers):
            runners.put(Runner(context, project, Path(temporary, str(number))))

        def check_tests() -> None:
            with _borrowed(runners) as runner:
                if runner.run(project.all_tests) is not Outcome.PASSED:
                    raise TestsFailError(runner.output)

        def judge(mutant: Mutant) -> Verdict:
            with _borrowed(runners) as runner:
                verdict = runner.judge(mutant)
            _report(_describe(mutant, verdict))
            return verdict

        with ThreadPoolExecutor(workers) as pool:
            check = pool.submit(check_tests)
            verdicts = pool.map(judge, sample)
            check.result()
            return list(verdicts)


@contextlib.contextmanager
def _borrowed(runners: queue.SimpleQueue[Runner]) -> Iterator[Runner]:
    runner = runners.get()
    try:
        yield runner
    finally:
        runners.put(runner)


def _describe(mutant: Mutant, verdict: Verdict) -> str:
    place = f"{verdict.value} {mutant.file}:{mutant.line}"
    if verdict is Verdict.KILLED:
        return place
    return f"{place}: {mutant.function or 'module'}\n  - {mutant.before}\n  + {mutant.after}"


def _report(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--sample", type=int, default=100, help="number of mutants")
    parser.add_argument(
        "--seed", type=int, default=1, help="choose the same mutants for the same seed"
    )
    parser.add_argument("--required", type=float, default=95, help="lowest score in percent")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--own-tests", action="store_true", help="run only the tests of the module and its folder"
    )
    parser.add_argument("--root", type=Path, default=_ROOT)
    parser.add_argument("--package", default="anthropic_proxy")
    parser.add_argument("--areas", nargs="+", default=PURE_PACKAGES)
    parser.add_argument("--equivalents", type=Path, default=EQUIVALENTS)
    return parser.parse_args()


def main() -> int:
    """Run the command, and return its exit code."""
    options = _arguments()
    project = Project(
        options.root, options.package, tuple(options.areas), options.equivalents, options.own_tests
    )
    outdated = project.outdated_equivalents()
    for identity in outdated:
        _report(f"no such mutant any more: {' | '.join(identity)}")
    sample = project.sample(options.sample, options.seed)
    try:
        verdicts = _judge_all(project, sample, options.workers)
    except TestsFailError as error:
        _report(f"the tests fail without a mutant:\n{error}")
        return 2
    killed = verdicts.count(Verdict.KILLED)
    score = 100 * killed / len(sample)
    _report(f"seed {options.seed}: {killed} of {len(sample)} mutants killed, {score:.1f} %")
    if errors := verdicts.count(Verdict.ERROR):
        _report(f"{errors} of them could not be judged")
    return 1 if outdated or score < options.required else 0


if __name__ == "__main__":
    sys.exit(main())
