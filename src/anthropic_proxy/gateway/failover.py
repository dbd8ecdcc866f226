"""Failover: send a request to its routes in order, until an upstream responds.

The client has received no content while this code runs, so a failed request may be sent again, to
the same upstream or to another one. The client of a stream may already have the opening events and
pings (`DeferredStream`); a final failure is then an `error` event.

By default, the proxy does not retry at the same upstream, because clients retry by themselves. The
two exceptions are a connection of the only route that fails before the response begins, and an idle
connection that the upstream had closed. `RetryPlan` makes these decisions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.failed_routes import FailedRoutes, parse_overflow_limit
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.retry import can_fail_over
from anthropic_proxy.upstream.target_health import is_server_error

_Result = TypeVar("_Result")


class Targets(Protocol):
    """Interface of the state of the routes' upstreams and models."""

    def get_client(self, route: Route) -> UpstreamClient:
        """Return the client of the upstream."""

    def get_context_window(self, route: Route) -> int:
        """Return the context window of the model in tokens; 0 if it is unknown."""


class Failover:
    """Sends requests to their routes."""

    def __init__(self, log: Log, metrics: Metrics, targets: Targets) -> None:
        self._log = log
        self._metrics = metrics
        self._targets = targets

    async def run(
        self,
        context: RequestContext,
        routes: Sequence[Route],
        send_to_route: Callable[[RequestContext, Route], Awaitable[_Result]],
    ) -> _Result:
        """Return the response of the first route that responds.

        Raises ApiError: an error that the request itself caused, otherwise the error that
        `FailedRoutes` selects.
        """
        plan = context.retry_plan
        try:
            return await self._try_routes(context, routes, send_to_route)
        finally:
            if plan.was_limited:
                self._log.warning(
                    "upstream request limit reached",
                    request_id=context.request_id,
                    limit=plan.max_requests,
                    hint="MAX_UPSTREAM_REQUESTS limits the upstream requests of a client request",
                )

    async def _try_routes(
        self,
        context: RequestContext,
        routes: Sequence[Route],
        send_to_route: Callable[[RequestContext, Route], Awaitable[_Result]],
    ) -> _Result:
        plan = context.retry_plan
        is_only_route = len(routes) == 1
        failed_routes = FailedRoutes()
        remaining = list(routes)
        while remaining:
            route = remaining.pop(0)
            plan.has_other_target = any(map(self._is_available, remaining))
            try:
                result = await self._send_with_retries(
                    context, route, send_to_route, is_only_route=is_only_route
                )
            except ApiError as error:
                overflow_limit = parse_overflow_limit(error)
                if overflow_limit is None and not can_fail_over(error):
                    raise
                self._record_failure(route, error, remaining)
                failed_routes.add(error)
                if overflow_limit is not None:
                    remaining = self._select_larger(remaining, overflow_limit)
                if not remaining or not plan.allows_attempt():
                    is_debug = is_only_route or overflow_limit is not None
                    self._log_failure(
                        route, error, context.request_id, "given up", is_debug=is_debug
                    )
                    break
                context.observation.failovers += 1
                self._metrics.count_failover(route.upstream.name)
                self._log_failure(route, error, context.request_id, "failed over")
            else:
                self._targets.get_client(route).record_success(route.model)
                return result
        raise failed_routes.select_error()

    def _select_larger(self, routes: list[Route], limit: int) -> list[Route]:
        """Return the routes whose context window is not known to be at most `limit` tokens."""
        larger = []
        for route in routes:
            window = self._targets.get_context_window(route)
            if window == 0 or window > limit:
                larger.append(route)
        return larger

    def _record_failure(self, route: Route, error: ApiError, remaining: list[Route]) -> None:
        """Record a failure that concerns later requests to the target."""
        client = self._targets.get_client(route)
        client.record_refusal(route.model, error)
        if is_server_error(error) and self._has_other_upstream(route, remaining):
            client.record_server_error(error)

    def _has_other_upstream(self, route: Route, remaining: list[Route]) -> bool:
        """Return whether a remaining route has another upstream that is available."""
        for other in remaining:
            if other.upstream.name != route.upstream.name and self._is_available(other):
                return True
        return False

    def _is_available(self, route: Route) -> bool:
        """Return whether a target neither cools down nor has an open circuit."""
        client = self._targets.get_client(route)
        return not client.is_circuit_open and client.seconds_until_usable(route.model) == 0

    async def _send_with_retries(
        self,
        context: RequestContext,
        route: Route,
        send_to_route: Callable[[RequestContext, Route], Awaitable[_Result]],
        *,
        is_only_route: bool,
    ) -> _Result:
        """Return the response of a route, after as many retries as the retry plan allows.

        Raises ApiError.
        """
        retry_count = 0
        while True:
            try:
                return await send_to_route(context, route)
            except ApiError as error:
                context.observation.fail_upstream_request(error)
                delay = context.retry_plan.retry_delay(
                    error, route.upstream, retry_count, is_only_route=is_only_route
                )
                if delay is None:
                    raise
                retry_count += 1
                context.observation.retries += 1
                self._metrics.count_retry(route.upstream.name)
                self._log_failure(route, error, context.request_id, "sent again")
            await asyncio.sleep(delay)

    def _log_failure(
        self,
        route: Route,
        error: ApiError,
        request_id: str,
        action: str,
        *,
        is_debug: bool = False,
    ) -> None:
        """Log a failed request.

        is_debug: if true, log at debug level, because `request finished` reports the same error.
        """
        write = self._log.debug if is_debug else self._log.warning
        values: dict[str, object] = {
            "action": action,
            "request_id": request_id,
            "upstream": route.upstream.name,
            "url": route.upstream.base_url,
            "reason": error.message,
        }
        # Not `error.status`: the proxy selects that status if the upstream has not responded.
        if error.upstream_status is not None:
            values["status"] = error.upstream_status
        write("upstream request failed", **values)
