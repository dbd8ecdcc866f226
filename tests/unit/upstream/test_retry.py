"""Rules for retries, keys and the retry budget, as tables and properties."""

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.upstream.retry import (
    KeyRing,
    RetryBudget,
    RetryBudgetConfig,
    RetryPolicy,
    cool_down_seconds,
    is_outage,
    is_transient,
    should_fail_over,
)

STATUSES: list[tuple[int, str]] = [
    (200, ""),
    (400, ""),
    (401, "fails over"),
    (402, "fails over"),
    (403, "fails over"),
    (404, "fails over"),
    (408, "fails over, passing, outage"),
    (409, ""),
    (413, ""),
    (422, ""),
    (429, "fails over, passing"),
    (500, "fails over, passing"),
    (501, "fails over"),
    (502, "fails over, passing, outage"),
    (503, "fails over, passing, outage"),
    (504, "fails over, passing, outage"),
    (505, "fails over"),
    (529, "fails over, passing, outage"),
    (599, "fails over, passing, outage"),
]


@pytest.mark.parametrize(("status", "verdict"), STATUSES)
def test_statuses(status: int, verdict: str) -> None:
    checks: dict[str, Callable[[int], bool]] = {
        "fails over": should_fail_over,
        "passing": is_transient,
        "outage": is_outage,
    }
    assert ", ".join(name for name, check in checks.items() if check(status)) == verdict


def test_keys_take_turns() -> None:
    ring = KeyRing(["a", "b", "a", "c"])
    keys = [ring.next(0) for _ in range(4)]
    assert [(key.number, key.value) for key in keys if key] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (0, "a"),
    ]
    assert "'" not in repr(keys)


def test_keys_that_cool_down_are_not_used() -> None:
    ring = KeyRing(["a", "b"])
    a, b = ring.next(0), ring.next(0)
    assert a
    assert b
    ring.cool_down(a, 0, 10)
    ring.cool_down(a, 1, 2)
    assert [ring.next(1), ring.next(1)] == [b, b]
    ring.cool_down(b, 1, 300)
    assert (ring.next(9), ring.retry_after(9)) == (None, 1)
    assert (ring.next(10), ring.retry_after(10)) == (a, 0)


@pytest.mark.parametrize(("keys", "value"), [([], None), (["only"], "only")])
def test_a_single_key_never_cools_down(keys: list[str], value: str | None) -> None:
    ring = KeyRing(keys)
    key = ring.next(0)
    assert key
    ring.cool_down(key, 0, 10)
    assert (ring.next(0), key.value, ring.retry_after(0)) == (key, value, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 20)), max_size=30), st.floats(0, 100))
def test_a_key_that_cools_down_is_never_returned(
    steps: list[tuple[int, float]], later: float
) -> None:
    ring = KeyRing(["a", "b", "c"])
    until = {"a": 0.0, "b": 0.0, "c": 0.0}
    for now, seconds in steps:
        key = ring.next(now)
        if key is None:
            assert min(until.values()) > now
        else:
            assert until[str(key.value)] <= now
            ring.cool_down(key, now, seconds)
            until[str(key.value)] = now + seconds
    assert (ring.next(later) is None) == (ring.retry_after(later) > 0)


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, None, 10),
        (429, 3, 3),
        (429, 0, 0),
        (429, -5, 0),
        (429, 86400, 300),
        (401, None, 300),
        (402, 1, 300),
        (403, None, 300),
        (500, 5, None),
        (400, None, None),
    ],
)
def test_cool_down_seconds(status: int, retry_after: float | None, seconds: float | None) -> None:
    assert cool_down_seconds(status, retry_after) == seconds


@pytest.mark.parametrize(
    ("attempt", "retry_after", "chance", "seconds"),
    [
        (0, None, 0.5, 0.25),
        (1, None, 0.5, 0.5),
        (3, None, 0.5, 2),
        (4, None, 0.5, 4),
        (9, None, 0.5, 4),
        (10**6, None, 0.5, 4),
        (2, None, 0, 0),
        (0, 3, 0, 3),
        (0, 10, 0.5, 10.25),
        (0, 0, 0, 0),
        (0, -1, 0, 0),
        (0, 10.5, 0, None),
    ],
)
def test_delays(
    attempt: int, retry_after: float | None, chance: float, seconds: float | None
) -> None:
    assert RetryPolicy().delay(attempt, retry_after, lambda: chance) == seconds


@given(st.integers(0), st.none() | st.floats(0), st.floats(0, 1, exclude_max=True))
def test_delays_are_bounded(attempt: int, retry_after: float | None, chance: float) -> None:
    delay = RetryPolicy().delay(attempt, retry_after, lambda: chance)
    assert (delay is None) == (retry_after is not None and retry_after > 10)
    assert delay is None or (retry_after or 0) <= delay <= 10.5


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["request", "retry"])), max_size=200))
def test_retries_stay_within_their_budget(steps: list[tuple[int, str]]) -> None:
    now = 0
    budget = RetryBudget(lambda: now, RetryBudgetConfig(share=0.2, window=10, floor=2))
    requests, retries = list[int](), list[int]()
    for seconds, what in steps:
        now += seconds
        if what == "request":
            budget.record_request()
            requests.append(now)
        else:
            made, asked = (sum(each > now - 10 for each in times) for times in (retries, requests))
            allowed = budget.try_spend()
            assert allowed == (made < max(2, asked // 5))
            retries += [now] if allowed else []


def test_the_default_budget() -> None:
    budget = RetryBudget(lambda: 1000)
    assert sum(budget.try_spend() for _ in range(20)) == 10
    for _ in range(100):
        budget.record_request()
    assert sum(budget.try_spend() for _ in range(20)) == 10


def test_old_requests_take_no_memory() -> None:
    hours = iter(range(0, 3600 * 1000, 3600))
    tracemalloc.start()
    try:
        budget = RetryBudget(lambda: next(hours))
        for _ in range(999):
            budget.record_request()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
