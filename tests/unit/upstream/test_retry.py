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
    (401, "failover"),
    (402, "failover"),
    (403, "failover"),
    (404, "failover"),
    (408, "failover, transient, outage"),
    (409, ""),
    (413, ""),
    (422, ""),
    (429, "failover, transient"),
    (500, "failover, transient"),
    (501, "failover"),
    (502, "failover, transient, outage"),
    (503, "failover, transient, outage"),
    (504, "failover, transient, outage"),
    (505, "failover"),
    (529, "failover, transient, outage"),
    (599, "failover, transient, outage"),
]


@pytest.mark.parametrize(("status", "expected"), STATUSES)
def test_statuses_are_classified(status: int, expected: str) -> None:
    checks: dict[str, Callable[[int], bool]] = {
        "failover": should_fail_over,
        "transient": is_transient,
        "outage": is_outage,
    }
    assert ", ".join(name for name, check in checks.items() if check(status)) == expected


def test_keys_are_used_in_turn() -> None:
    ring = KeyRing(["a", "b", "a", "c"])
    keys = [ring.next(0) for _ in range(4)]
    assert [(key.number, key.value) for key in keys if key] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (0, "a"),
    ]
    assert "'" not in repr(keys)


def test_keys_are_not_used_during_their_cool_down() -> None:
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
def test_a_key_is_never_returned_during_its_cool_down(
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
        (400, None, 300),
    ],
)
def test_the_cool_down_depends_on_status_and_retry_after(
    status: int, retry_after: float | None, seconds: float
) -> None:
    assert cool_down_seconds(status, retry_after) == seconds


@pytest.mark.parametrize(
    ("attempt", "retry_after", "random_value", "seconds"),
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
def test_delays_depend_on_attempt_and_retry_after(
    attempt: int, retry_after: float | None, random_value: float, seconds: float | None
) -> None:
    assert RetryPolicy().delay(attempt, retry_after, lambda: random_value) == seconds


@given(st.integers(0), st.none() | st.floats(0), st.floats(0, 1, exclude_max=True))
def test_delays_are_bounded(attempt: int, retry_after: float | None, random_value: float) -> None:
    delay = RetryPolicy().delay(attempt, retry_after, lambda: random_value)
    assert (delay is None) == (retry_after is not None and retry_after > 10)
    assert delay is None or (retry_after or 0) <= delay <= 10.5


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["request", "retry"])), max_size=200))
def test_retries_stay_within_their_budget(steps: list[tuple[int, str]]) -> None:
    now = 0
    budget = RetryBudget(lambda: now, RetryBudgetConfig(share=0.2, window=10, floor=2))
    requests, retries = list[int](), list[int]()
    for seconds, kind in steps:
        now += seconds
        if kind == "request":
            budget.record_request()
            requests.append(now)
        else:
            recent_retries, recent_requests = (
                sum(time > now - 10 for time in times) for times in (retries, requests)
            )
            allowed = budget.try_spend()
            assert allowed == (recent_retries < max(2, recent_requests // 5))
            retries += [now] if allowed else []


def test_the_default_budget_permits_ten_retries() -> None:
    budget = RetryBudget(lambda: 1000)
    assert sum(budget.try_spend() for _ in range(20)) == 10
    for _ in range(100):
        budget.record_request()
    assert sum(budget.try_spend() for _ in range(20)) == 10


def test_old_requests_use_no_memory() -> None:
    hours = iter(range(0, 3600 * 1000, 3600))
    tracemalloc.start()
    try:
        budget = RetryBudget(lambda: next(hours))
        for _ in range(999):
            budget.record_request()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
