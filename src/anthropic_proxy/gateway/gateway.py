"""Send a checked request to its routes, and return the response.

request -> routes -> the first backend that responds. Every failure is an ApiError.
"""

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.backend import Backend, ResponseContent
from anthropic_proxy.gateway.failover import Failover
from anthropic_proxy.gateway.model_list import ModelList
from anthropic_proxy.gateway.request_context import RequestContext, ResponseState
from anthropic_proxy.gateway.resources import GatewayResources, ProcessResources
from anthropic_proxy.gateway.streams.deferred import DeferredStream, StreamResult
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing import router
from anthropic_proxy.routing.router import Route, Routing
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream import retry
from anthropic_proxy.wire.anthropic.request import RequestBody
from anthropic_proxy.wire.json_codec import JsonObject

# Of a request that nobody here understands; rather too many tokens.
_BYTES_PER_TOKEN = 4


class BackendFactory(Protocol):
    """Creates the backend of an upstream."""

    def __call__(
        self,
        upstream: Upstream,
        resources: GatewayResources,
        process: ProcessResources,
        *,
        is_only: bool,
    ) -> Backend:
        """is_only: no other upstream is configured."""


@dataclass(frozen=True)
class GatewayResponse:
    """A response for the client."""

    # A Message (bytes are passed through), or its events: as a stream, or all at once.
    content: ResponseContent | DeferredStream
    headers: dict[str, str]
    status: int = 200


class Gateway:
    """Serves checked requests by one configuration. `model_list` lists the models."""

    def __init__(
        self,
        resources: GatewayResources,
        routing: Routing,
        process: ProcessResources,
        create_backend: BackendFactory,
        previous: "Gateway | None" = None,
    ) -> None:
        """previous: the gateway of the configuration before, whose backends are kept for unchanged upstreams: their leases,
        circuit breakers, keys and model memories.
        """
        self._resources = resources
        self._process = process
        self._log = process.log
        self._failover = Failover(process.log, process.metrics)
        self._routing = routing
        reusable = previous._reusable_backends(resources, routing) if previous else {}  # noqa: SLF001 - another of the same
        is_only = len(routing.upstreams) == 1
        self._backends = {
            upstream.name: reusable.get(upstream.name)
            or create_backend(upstream, resources, process, is_only=is_only)
            for upstream in routing.upstreams
        }
        self.model_list = ModelList(self._routing, self._backends)

    def upstream_availability(self) -> dict[str, bool]:
        """Return the names of the upstreams, and whether each is available: a circuit breaker may be open."""
        return {
            name: not backend.client.is_circuit_open for name, backend in self._backends.items()
        }

    def report_states(self) -> None:
        """Report the states of the upstreams to the metrics."""
        for name, backend in self._backends.items():
            self._process.metrics.set_upstream_state(name, **backend.client.snapshot())

    async def create_message(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> GatewayResponse:
        """Answer `POST /v1/messages`. Raises ApiError."""
        context = _create_context(body, caller, observation)
        routes = self._select_routes(context)
        run = self._failover.run(routes, partial(self._send_to_backend, context), context.state)
        if not context.request.get("stream"):
            return GatewayResponse(await run, context.state.headers, context.state.status)
        stream_run = cast(
            "Coroutine[Any, Any, StreamResult]", run
        )  # no message is made where a stream is wanted
        # A stream that is passed through has its own beginning.
        opening: Callable[[], list[JsonObject]] = (
            list if any(map(_is_native, routes)) else context.opening_events
        )
        on_error = partial(self._log_broken_stream, observation)
        stream = DeferredStream(
            stream_run, opening, context.request_id, on_error, context.state.accepted
        )
        await stream.start()
        return GatewayResponse(stream.unwrap(), context.state.headers, context.state.status)

    async def count_tokens(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> GatewayResponse:
        """Answer `POST /v1/messages/count_tokens`; the model is not run. Raises ApiError."""
        context = _create_context(body, caller, observation)
        route = self._select_routes(context)[0]
        content = await self._backends[route.upstream.name].count_tokens(context, route)
        return GatewayResponse(content, context.state.headers, context.state.status)

    def _log_broken_stream(self, observation: Observation, error: Exception) -> None:
        self._log.log_stream_failure(observation.request_id, error)
        observation.record_stream_failure(error)

    def _reusable_backends(
        self, resources: GatewayResources, routing: Routing
    ) -> dict[str, Backend]:
        """Return the backends of the upstreams that another configuration leaves unchanged, by their names."""
        is_only = len(self._routing.upstreams) == 1
        if resources is not self._resources or is_only != (len(routing.upstreams) == 1):
            return {}
        return {
            upstream.name: self._backends[upstream.name]
            for upstream in self._routing.upstreams
            if upstream in routing.upstreams
        }

    def _select_routes(self, context: RequestContext) -> list[Route]:
        """Return the routes in order. Raises ApiError when the first cannot serve the request, which was meant for it."""
        groups = self._routing.select_groups(context.request, partial(self._input_tokens, context))
        routes = router.build_routes(
            retry.shuffle_by_weight(groups, random.random), context.request["model"]
        )
        if context.refusal is not None:
            if not _is_native(routes[0]):
                raise context.refusal
            routes = list(filter(_is_native, routes))
        # Those that fail are kept for the case that all do.
        return sorted(
            routes, key=lambda route: self._backends[route.upstream.name].client.is_circuit_open
        )

    def _input_tokens(self, context: RequestContext) -> int:
        """Estimate the input tokens of a request before a route is selected."""
        if context.refusal is not None:
            return len(context.raw_body) // _BYTES_PER_TOKEN
        first = self._routing.upstreams[0]
        return self._backends[first.name].estimate_tokens(
            context.request, Route(first, context.request["model"])
        )

    async def _send_to_backend(self, context: RequestContext, route: Route) -> ResponseContent:
        return await self._backends[route.upstream.name].create_message(context, route)


def _create_context(body: RequestBody, caller: Caller, observation: Observation) -> RequestContext:
    observation.model, observation.is_stream = (
        body.request["model"],
        bool(body.request.get("stream")),
    )
    return RequestContext(
        body.request, ResponseState(observation), caller, body.raw, _translation_refusal(body)
    )


def _is_native(route: Route) -> bool:
    return route.upstream.api == "messages"


def _translation_refusal(body: RequestBody) -> ApiError | None:
    """What all upstreams but native ones say to a request."""
    if body.problem is not None:
        return ApiError(400, str(body.problem), details=body.problem.details)
    return _no_threads_error() if body.request.get("thread") else None


def _no_threads_error() -> ApiError:
    """On this code the SDKs send the whole conversation again, and from then on without a thread."""
    details = {"error_code": "thread_unsupported_request", "unsupported": []}
    return ApiError(
        400, "thread: this server keeps no threads; send the whole conversation", details=details
    )
