"""Failover: send a request to its routes in order, until one responds.

Nothing of a response has reached the client while this runs, so a failed request may be sent
again, to the same upstream or to another one. By default nothing is sent to the same upstream
again, as clients retry by themselves; only a connection of a single route that could not be made,
or that broke before a response, is retried once. `RetryPlan` decides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.retry_plan import can_fail_over

_Result = TypeVar("_Result")


class Failover:
    """Sends requests to their routes."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    async def run(
        self,
        context: RequestContext,
        routes: Sequence[Route],
        send: Callable[[RequestContext, Route], Awaitable[_Result]],
    ) -> _Result:
        """Return the response of the first route that has one.

        Raises ApiError: the error that is about the request itself, else the error of the first
        route, which was meant to serve it.
        """
        plan = context.retry_plan
        try:
            return await self._try_routes(context, routes, send)
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
        send: Callable[[RequestContext, Route], Awaitable[_Result]],
    ) -> _Result:
        plan = context.retry_plan
        is_only_route = len(routes) == 1
        errors: list[ApiError] = []
        for route in routes:
            try:
                return await self._send_with_retries(
                    context, route, send, is_only_route=is_only_route
                )
            except ApiError as error:
                if not can_fail_over(error):
                    raise
                errors.append(error)
                if len(errors) == len(routes) or not plan.try_attempt(plan.attempt_size):
                    self._log_failure(
                        route, error, context.request_id, "given up", is_repeated=is_only_route
                    )
                    break
                context.observation.failovers += 1
                self._metrics.count_failover(route.upstream.name)
                self._log_failure(route, error, context.request_id, "failed over")
        raise errors[0]

    async def _send_with_retries(
        self,
        context: RequestContext,
        route: Route,
        send: Callable[[RequestContext, Route], Awaitable[_Result]],
        *,
        is_only_route: bool,
    ) -> _Result:
        """Return the response of a route, which is retried as the retry plan allows.

        Raises ApiError.
        """
        retry_count = 0
        while True:
            try:
                return await send(context, route)
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
        is_repeated: bool = False,
    ) -> None:
        """Log a failed request. is_repeated: the request log has the same reason."""
        write = self._log.debug if is_repeated else self._log.warning
        values: dict[str, object] = {
            "action": action,
            "request_id": request_id,
            "upstream": route.upstream.name,
            "url": route.upstream.base_url,
            "reason": error.message,
        }
        # Not `error.status`: without a response of the upstream, the proxy has chosen that.
        if error.upstream_status is not None:
            values["status"] = error.upstream_status
        write("upstream request failed", **values)
