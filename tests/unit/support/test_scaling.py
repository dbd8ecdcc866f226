"""The measure itself: it accepts linear work and rejects quadratic work."""

from collections.abc import Callable

import pytest

from tests.support.scaling import assert_linear_cpu, assert_linear_lines


def _loop(rounds: int) -> Callable[[], object]:
    def work() -> None:
        for _ in range(rounds):
            pass

    return work


def _copies(length: int) -> Callable[[], object]:
    text = "x" * length

    def work() -> None:
        for end in range(length):
            text[:end].upper()

    return work


def test_linear_work_passes() -> None:
    assert_linear_lines(_loop, 100)
    assert_linear_cpu(_loop, 100)


def test_work_too_fast_to_measure_passes() -> None:
    assert_linear_cpu(lambda _: lambda: None, 1)


def test_quadratic_lines_fail() -> None:
    with pytest.raises(AssertionError, match="cost at n, 2n and 4n"):
        assert_linear_lines(lambda size: _loop(size * size), 100)


def test_quadratic_copies_fail() -> None:
    with pytest.raises(AssertionError, match="cost at n, 2n and 4n"):
        assert_linear_cpu(_copies, 2_000)
