"""Properties of failover: bounded attempts, without loops, for any results of the targets."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.failover import Failover
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import UpstreamClient, create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.upstream.retry import RetryPolicy, can_fail_over
from anthropic_proxy.upstream.retry_plan import RetryPlan

_NAMES = "abcd"
_WINDOWS = (0, 8192, 32_768, 200_000)


def _overflow(limit: int) -> ApiError:
    error = ApiError(400, f"prompt is too long: 300000 tokens > {limit} maximum")
    error.upstream_status = 400
    return error


def _error(status: int) -> ApiError:
    error = ApiError(status, f"failed with {status}")
    error.upstream_status = status
    return error


def _meant(*, concerns_target: bool) -> ApiError:
    error = _error(400)
    error.concerns_target = concerns_target
    return error


_RESULTS = st.one_of(
    st.none(),
    st.sampled_from([400, 401, 404, 413, 422, 429, 500, 503, 529]).map(_error),
    st.sampled_from(_WINDOWS[1:]).map(_overflow),
    st.booleans().map(lambda value: _meant(concerns_target=value)),
)


@dataclass
class _Targets:
    """The targets of one request, whose upstreams have known results."""

    windows: dict[str, int]
    clients: dict[str, UpstreamClient] = field(default_factory=dict)

    def get_client(self, route: Route) -> UpstreamClient:
        return self.clients.setdefault(
            route.upstream.name,
            create_upstream_client(route.upstream, UpstreamHTTPClient(), is_only=False),
        )

    def get_context_window(self, route: Route) -> int:
        return self.windows[route.upstream.name]


def _routes(retries: list[int]) -> list[Route]:
    return [
        Route(Upstream(name, "http://127.0.0.1:1/v1", GENERIC, retries=number), "m")
        for name, number in zip(_NAMES, retries, strict=False)
    ]


@pytest.mark.parametrize("problem", ["", "open circuit", "cool-down", "refused keys"])
def test_an_unavailable_target_is_no_other_target(problem: str) -> None:
    """The time limit of the first token applies only if another target may be faster."""
    first, second = (
        Route(Upstream(name, "http://127.0.0.1:1/v1", GENERIC, keys=("k", "l")), "m")
        for name in "ab"
    )
    targets = _Targets({"a": 0, "b": 0})
    client = targets.get_client(second)
    if problem == "open circuit":
        for _ in range(5):
            client.record_server_error(_error(500))
    elif problem == "cool-down":
        client.record_refusal("m", _error(404))
    elif problem == "refused keys":
        for _ in range(2):
            key, permit = client.state.acquire_key("b")
            client.state.cool_key(key, 401, 300)
            permit.abandon()
    plan = RetryPlan()
    context = RequestContext({"model": "m"}, Observation("POST", "/v1/messages"), retry_plan=plan)
    has_other: list[bool] = []

    async def send(_: RequestContext, __: Route) -> str:
        has_other.append(plan.has_other_target)
        return "served"

    failover = Failover(Log(), Metrics(), targets)
    assert _run(failover.run(context, [first, second], send)) == ("served", None)
    assert has_other == [not problem]


def _run(work: Coroutine[Any, Any, str]) -> tuple[str, ApiError | None]:
    try:
        return asyncio.run(work), None
    except ApiError as error:
        return "", error


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(st.lists(_RESULTS, min_size=8, max_size=8), min_size=4, max_size=4),
    st.lists(st.sampled_from(_WINDOWS), min_size=4, max_size=4),
    st.integers(1, 16),
)
def test_attempts_are_bounded_and_never_return_to_a_target(
    retries: list[int],
    results: list[list[ApiError | None]],
    windows: list[int],
    max_requests: int,
) -> None:
    routes = _routes(retries)
    remaining = {name: list(each) for name, each in zip(_NAMES, results, strict=True)}
    plan = RetryPlan(max_requests, policy=RetryPolicy(base_delay=0, max_retry_after=0))
    context = RequestContext({"model": "m"}, Observation("POST", "/v1/messages"), retry_plan=plan)
    attempts: list[str] = []
    errors: list[ApiError] = []

    async def send(_: RequestContext, route: Route) -> str:
        plan.record_request()
        name = route.upstream.name
        attempts.append(name)
        is_last = name == routes[-1].upstream.name
        assert plan.has_other_target <= (not is_last)
        result = remaining[name].pop(0)
        if result is not None:
            errors.append(result)
            raise result
        return name

    targets = _Targets(dict(zip(_NAMES, windows, strict=True)))
    failover = Failover(Log(), Metrics(), targets)
    served, raised = _run(failover.run(context, routes, send))
    if raised is None:
        assert served == attempts[-1]
        assert len(attempts) == len(errors) + 1
    else:
        assert raised in errors
        assert len(attempts) == len(errors)
        last = errors[-1]
        if not can_fail_over(last) and "prompt is too long" not in last.message:
            # An error of the request is returned at once.
            assert raised is last
    assert len(attempts) <= max_requests
    # In the order of the routes, and with as many retries as each upstream allows.
    positions = [_NAMES.index(name) for name in attempts]
    assert all(first <= second for first, second in pairwise(positions))
    for route in routes:
        assert attempts.count(route.upstream.name) <= max(route.upstream.retries, 1) + 1
