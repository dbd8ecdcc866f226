"""Retries of one client request: their number, and the errors that cause them."""

import dataclasses

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.http_client import LocalShortageError, UpstreamError
from anthropic_proxy.upstream.retry import RetryBudget, RetryBudgetConfig, can_fail_over
from anthropic_proxy.upstream.retry_plan import RetryPlan

UPSTREAM = Upstream("a", "http://127.0.0.1:1/v1", GENERIC)


def with_retries(retries: int, name: str = "a") -> Upstream:
    return dataclasses.replace(UPSTREAM, name=name, retries=retries)


def upstream_error(upstream_status: int, status: int | None = None, **headers: str) -> ApiError:
    error = ApiError(status or upstream_status, "failed", {**headers})
    error.upstream_status = upstream_status
    return error


def meaning(error: ApiError, *, concerns_target: bool) -> ApiError:
    error.concerns_target = concerns_target
    return error


ERRORS: dict[str, ApiError] = {
    "refused content with the status of a rejected key": meaning(
        upstream_error(403, 400), concerns_target=False
    ),
    "refused content with the status of a failure": meaning(
        upstream_error(500, 400), concerns_target=False
    ),
    "spent credit with the status of a bad request": meaning(
        upstream_error(400, 402, **{"x-should-retry": "false"}), concerns_target=True
    ),
    "a missing model with the status of a bad request": meaning(
        upstream_error(400, 404), concerns_target=True
    ),
    "a failure behind a gateway with the status of a bad request": meaning(
        upstream_error(400, 500), concerns_target=True
    ),
    "an outage after which the upstream forbids retries": upstream_error(
        503, None, **{"x-should-retry": "false"}
    ),
    "rate limit": upstream_error(429),
    "outage": upstream_error(503),
    "a long wait": upstream_error(429, None, **{"retry-after": "3600"}),
    "a rejected key": upstream_error(401),
    "a missing model": upstream_error(404),
    "a bad request": upstream_error(400),
    "a long prompt with the status of an upstream failure": upstream_error(500, 400),
    "a large prompt with the status of an upstream failure": upstream_error(500, 413),
    "a rejection by the proxy": ApiError(400, "wrong"),
    "a failure of the proxy": ApiError(500, "failed"),
    "no connection": UpstreamError(500, "refused", "connect"),
    "a broken connection": UpstreamError(500, "broken", "head"),
    "a broken response": UpstreamError(500, "broken", "body"),
    "a timeout": UpstreamError(504, "late", "head"),
    "no file descriptors": LocalShortageError("a", "file descriptors"),
}

# Whether the proxy sends the request again without retries on the only route, sends it again with
# one retry on one of several routes, and fails over.
OUTCOMES = {
    "refused content with the status of a rejected key": (False, False, False),
    "refused content with the status of a failure": (False, False, False),
    "spent credit with the status of a bad request": (False, False, True),
    "a missing model with the status of a bad request": (False, False, True),
    "a failure behind a gateway with the status of a bad request": (False, True, True),
    "an outage after which the upstream forbids retries": (False, False, True),
    "rate limit": (False, True, True),
    "outage": (False, True, True),
    "a long wait": (False, False, True),
    "a rejected key": (False, False, True),
    "a missing model": (False, False, True),
    "a bad request": (False, False, False),
    "a long prompt with the status of an upstream failure": (False, False, False),
    "a large prompt with the status of an upstream failure": (False, False, False),
    "a rejection by the proxy": (False, False, False),
    "a failure of the proxy": (False, True, True),
    "no connection": (True, True, True),
    "a broken connection": (True, True, True),
    "a broken response": (False, True, True),
    "a timeout": (False, True, True),
    "no file descriptors": (False, True, True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    error = ERRORS[name]
    reconnect = RetryPlan().retry_delay(error, with_retries(0), 0, is_only_route=True)
    retry = RetryPlan().retry_delay(error, with_retries(1), 0, is_only_route=False)
    outcome = (reconnect is not None, retry is not None, can_fail_over(error))
    assert outcome == OUTCOMES[name]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("concerns_target", [True, False])
def test_the_meaning_of_an_error_decides_about_failover(
    monkeypatch: pytest.MonkeyPatch, name: str, *, concerns_target: bool
) -> None:
    monkeypatch.setattr(ERRORS[name], "concerns_target", concerns_target)
    assert can_fail_over(ERRORS[name]) is concerns_target


@pytest.mark.parametrize(("retries", "resends"), [(0, 1), (1, 1), (2, 2)])
def test_retries_and_reused_connections_are_counted_together(retries: int, resends: int) -> None:
    upstream, plan = with_retries(retries), RetryPlan()
    outcomes = [plan.try_record_resend(upstream) for _ in range(3)]
    assert outcomes == [True] * resends + [False] * (3 - resends)
    assert plan.retry_delay(ERRORS["outage"], upstream, 0, is_only_route=True) is None
    assert plan.request_count == resends


def test_each_upstream_has_its_own_count() -> None:
    plan = RetryPlan()
    assert [plan.try_record_resend(with_retries(0, name)) for name in "aabb"] == [
        True,
        False,
        True,
        False,
    ]


def test_the_api_changes_twice_for_each_upstream() -> None:
    plan = RetryPlan()
    outcomes = [plan.try_change_api(with_retries(0, name)) for name in "aaab"]
    assert outcomes == [True, True, False, True]


def test_no_more_requests_than_the_limit() -> None:
    upstream, plan = with_retries(9), RetryPlan(2)
    plan.record_request()
    assert plan.try_record_resend(upstream)
    assert not plan.was_limited
    assert not plan.allows_request()
    assert plan.was_limited
    assert not plan.try_record_resend(upstream)
    assert not plan.try_change_api(upstream)
    assert plan.retry_delay(ERRORS["outage"], upstream, 0, is_only_route=True) is None
    with pytest.raises(ApiError, match=r"2 \(MAX_UPSTREAM_REQUESTS\)") as raised:
        plan.record_request()
    assert raised.value.status == 500
    assert raised.value.headers == {"x-should-retry": "false"}
    assert plan.request_count == 2


def test_a_compaction_needs_two_requests() -> None:
    plan = RetryPlan(3)
    plan.begin_compaction()
    plan.record_request()
    plan.record_request()
    # The summary would be useless without a second request.
    assert plan.retry_delay(ERRORS["outage"], with_retries(9), 0, is_only_route=True) is None
    assert not plan.try_change_api(UPSTREAM)
    assert plan.was_limited
    with pytest.raises(ApiError, match="MAX_UPSTREAM_REQUESTS"):
        plan.begin_compaction()


def test_after_the_summary_of_a_compaction_an_attempt_needs_one_request() -> None:
    plan = RetryPlan(3)
    plan.begin_compaction()
    plan.record_request()
    plan.end_compaction()
    plan.record_request()
    assert plan.allows_attempt()
    plan.record_request()
    assert not plan.allows_attempt()


def test_no_more_retries_than_the_budget() -> None:
    budget = RetryBudget(lambda: 0, RetryBudgetConfig(floor=1))
    plans = [RetryPlan(budget=budget) for _ in range(2)]
    delays = [
        plan.retry_delay(ERRORS["outage"], with_retries(1), 0, is_only_route=True) for plan in plans
    ]
    assert [delay is not None for delay in delays] == [True, False]


def test_the_delay_is_random_up_to_a_bound_that_doubles() -> None:
    plan = RetryPlan(draw=lambda: 1.0)
    upstream = with_retries(3)
    delays = [
        plan.retry_delay(ERRORS["outage"], upstream, count, is_only_route=True)
        for count in range(3)
    ]
    assert delays == [0.5, 1, 2]
