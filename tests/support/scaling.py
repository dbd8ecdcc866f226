"""Measure how the cost of some work grows with the size of its input.

A test prepares the same hostile input at sizes n, 2n and 4n. Twice the input may cost at most three
times as much: linear work costs twice as much, quadratic work four times. Two measures complement
each other: executed lines are exact, but leave out regular expressions, copies and other C code;
CPU time includes all of it, and is noisy.
"""

import gc
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

# Returns the work for an input of the given size. Building the input is not measured.
Prepare = Callable[[int], Callable[[], object]]

# Shorter runs are mostly noise.
_SHORTEST_RUN_SECONDS = 0.01
_RUNS = 3
_LARGEST_RATIO = 3.0
# Doublings after which work that is still too fast to be measured counts as cheap enough.
_MAX_DOUBLINGS = 12


def assert_linear_lines(prepare: Prepare, size: int) -> None:
    """Assert that executed Python lines grow at most in proportion to the size."""
    _assert_linear([_executed_lines(prepare(size * factor)) for factor in (1, 2, 4)])


def assert_linear_cpu(prepare: Prepare, size: int, *, doublings: int = _MAX_DOUBLINGS) -> None:
    """Assert that CPU time grows at most in proportion to the size.

    The size is doubled first until one run takes at least ten milliseconds. A run that stays below
    that after as many doublings (by default up to 4,096 times the size) passes. A failure is
    measured again: other work on the machine may have disturbed it.
    """
    for _ in range(doublings):
        if _cpu_seconds(prepare, size) >= _SHORTEST_RUN_SECONDS:
            _assert_linear_once_of_three(prepare, size)
            return
        size *= 2


def _assert_linear_once_of_three(prepare: Prepare, size: int) -> None:
    failures: list[AssertionError] = []
    for _ in range(3):
        try:
            _assert_linear([_cpu_seconds(prepare, size * factor) for factor in (1, 2, 4)])
        except AssertionError as failure:
            failures.append(failure)
        else:
            return
    raise failures[-1]


def _assert_linear(costs: list[float]) -> None:
    ratios = [larger / smaller for smaller, larger in pairwise(costs)]
    assert max(ratios) < _LARGEST_RATIO, f"cost at n, 2n and 4n: {costs}"


def _cpu_seconds(prepare: Prepare, size: int) -> float:
    seconds = []
    for _ in range(_RUNS):
        work = prepare(size)
        # Work may enable the collector. Then it looks only through objects of the work.
        gc.freeze()
        gc.disable()
        try:
            began = time.process_time()
            work()
            seconds.append(time.process_time() - began)
        finally:
            gc.enable()
            gc.unfreeze()
    return min(seconds)


def _executed_lines(work: Callable[[], object]) -> int:
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    # Coverage traces the tests as well.
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
