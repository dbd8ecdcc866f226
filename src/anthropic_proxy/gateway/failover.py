"""Failover: send a request to its routes in order, until one responds.

Nothing of a response has reached the caller while this runs, so a failed request may be sent again, here or elsewhere. With
a single route an error is raised at once, as callers retry by themselves; only a connection that could not be made, or
broke before a response, is retried once. `RetryAllowance` limits how often a request is sent to the same upstream,
including what connections resend.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.request_context import ResponseState
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.http_client import LocalShortageError, UpstreamError
from anthropic_proxy.upstream.retry import (
    RetryAllowance,
    RetryBudget,
    RetryPolicy,
    is_transient,
    should_fail_over,
)
from anthropic_proxy.wire.retry_after import parse_retry_after

_Result = TypeVar("_Result")

# What is tried once more on the only route: a restarting server is back after that long.
_RECONNECT_POLICY = RetryPolicy(base_delay=0.5, max_delay=0.5)


class Failover:
    """Tries routes. policy: how long to wait before the same route is retried."""

    def __init__(self, log: Log, metrics: Metrics, policy: RetryPolicy | None = None) -> None:
        self._log = log
        self._metrics = metrics
        self._policy = policy or RetryPolicy()
        self._budget = RetryBudget(time.monotonic)

    async def run(
        self,
        routes: Sequence[Route],
        send: Callable[[Route], Awaitable[_Result]],
        state: ResponseState,
    ) -> _Result:
        """Return the response of the first route that has one.

        Raises ApiError: what is wrong with the request itself, else the error of the first route, which was meant.
        """
        observation = state.observation
        self._budget.record_request()
        errors: list[ApiError] = []
        for route in routes:
            try:
                return await self._run_route(route, send, is_only=len(routes) == 1, state=state)
            except ApiError as error:
                if not _can_fail_over(error):
                    raise
                errors.append(error)
                if len(errors) < len(routes):
                    observation.failovers += 1
                    self._metrics.count_failover(route.upstream.name)
                action = "failed over" if len(errors) < len(routes) else "given up"
                self._log_failure(
                    route, error, observation.request_id, action, is_only=len(routes) == 1
                )
        raise errors[0]

    async def _run_route(
        self,
        route: Route,
        send: Callable[[Route], Awaitable[_Result]],
        *,
        is_only: bool,
        state: ResponseState,
    ) -> _Result:
        observation = state.observation
        retry_count = 0
        while True:
            try:
                return await send(route)
            except ApiError as error:
                observation.fail_upstream_request(error)
                delay = self._retry_delay(
                    error, retry_count, route, state.retry_allowance, is_only=is_only
                )
                if delay is None:
                    raise
                observation.retries += 1
                self._metrics.count_retry(route.upstream.name)
                self._log_failure(route, error, observation.request_id, "sent again")
                retry_count += 1
                await asyncio.sleep(delay)

    def _retry_delay(
        self,
        error: ApiError,
        retry_count: int,
        route: Route,
        allowance: RetryAllowance,
        *,
        is_only: bool,
    ) -> float | None:
        """Return the seconds until the same route is retried; None when it is not. retry_count: retries so far."""
        if _is_request_error(error):
            return None
        retries = route.upstream.retries
        should_reconnect = is_only and _is_connection_failure(error)
        should_retry = retry_count < retries and is_transient(_status(error))
        if not (should_reconnect or should_retry):
            return None
        policy = self._policy if retry_count < retries else _RECONNECT_POLICY
        delay = policy.delay(retry_count, parse_retry_after(error.headers), random.random)
        if delay is None or not allowance.try_spend(route.upstream.name, retries):
            return None
        return delay if self._budget.try_spend() else None

    def _log_failure(
        self, route: Route, error: ApiError, request_id: str, action: str, *, is_only: bool = False
    ) -> None:
        # Where nothing else was tried, the line of the request says the same.
        write = self._log.debug if action == "given up" and is_only else self._log.warning
        values: dict[str, object] = {
            "action": action,
            "request_id": request_id,
            "upstream": route.upstream.name,
            "url": route.upstream.base_url,
            "reason": error.message,
        }
        # Not the status that the client gets: where the upstream sent none, that is the proxy's own.
        if error.upstream_status is not None:
            values["status"] = error.upstream_status
        write("upstream request failed", **values)


def _can_fail_over(error: ApiError) -> bool:
    """Return whether another upstream may do better. A refusal of our own is about the request."""
    if _is_request_error(error):
        return False
    return should_fail_over(error.upstream_status) if error.upstream_status else error.status >= 500


def _is_request_error(error: ApiError) -> bool:
    """Some servers answer 500 to a prompt that is too long, or to an image that they don't take."""
    return error.status in (400, 413) and (error.upstream_status or 0) >= 500


def _status(error: ApiError) -> int:
    return error.upstream_status or error.status


def _is_connection_failure(error: ApiError) -> bool:
    """Return whether a connection was refused or reset. One that timed out has taken its time already, and what this server
    has run out of will not be there in half a second.
    """
    if not isinstance(error, UpstreamError) or isinstance(error, LocalShortageError):
        return False
    return error.phase != "body" and error.status != 504
