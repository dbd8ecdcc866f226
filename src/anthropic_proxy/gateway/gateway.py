"""Entry point of the package: select the routes of a checked request, and return the response.

The response comes from the first route that succeeds. Every failure is an ApiError.
"""

import random
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.backend import Backend
from anthropic_proxy.gateway.failover import Failover
from anthropic_proxy.gateway.model_list import ModelList
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.resources import GatewayResources, ProcessResources
from anthropic_proxy.gateway.streams.deferred import DeferredStream
from anthropic_proxy.gateway.streams.message_stream import MessageStream
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.load_balancing import draw_for_session, order_by_weight
from anthropic_proxy.routing.router import Route, Routing, Target, TargetGroups
from anthropic_proxy.routing.sessions import identify_session
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.retry_plan import DEFAULT_MAX_REQUESTS, RetryPlan
from anthropic_proxy.wire.anthropic.request import RequestBody

# For a high estimate of the tokens of a request that cannot be translated.
_BYTES_PER_TOKEN = 4

_Content = TypeVar("_Content", bytes, MessageStream)


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
        """Return the backend. is_only: whether no other upstream is configured."""


@dataclass(frozen=True)
class GatewayResponse(Generic[_Content]):
    """The response for the client. `content` is a JSON document, or the stream of a Message."""

    status: int
    headers: dict[str, str]
    content: _Content


class Gateway:
    """Serves checked requests with one configuration."""

    def __init__(  # noqa: PLR0913 - the parts of a configuration
        self,
        resources: GatewayResources,
        routing: Routing,
        process: ProcessResources,
        create_backend: BackendFactory,
        previous: "Gateway | None" = None,
        *,
        max_upstream_requests: int = DEFAULT_MAX_REQUESTS,
        session_affinity: bool = True,
    ) -> None:
        """Create the backends of a configuration.

        previous: the gateway of the previous configuration. The backends of unchanged upstreams
        are reused, with their leases, circuit breakers, keys and model memories.
        max_upstream_requests: the maximum number of upstream requests for one client request.
        session_affinity: whether all requests of a session have the same order of targets.
        """
        self._resources = resources
        self._process = process
        self._log = process.log
        self._failover = Failover(process.log, process.metrics, self)
        self._max_upstream_requests = max_upstream_requests
        self._session_affinity = session_affinity
        self._routing = routing
        reusable = previous.reusable_backends(resources, routing) if previous else {}
        is_only = len(routing.upstreams) == 1
        # In the configured order, which is the order of the list of models.
        self._backends: dict[str, Backend] = {}
        for upstream in routing.upstreams:
            backend = reusable.get(upstream.name)
            if backend is None:
                backend = create_backend(upstream, resources, process, is_only=is_only)
            self._backends[upstream.name] = backend
        self.model_list = ModelList(self._routing, self._backends)

    def list_model_names(self, model: str) -> tuple[str, ...]:
        """Return the names by which an API key may allow a requested or listed model."""
        return self._routing.list_names(model)

    def upstream_availability(self) -> dict[str, bool]:
        """Return whether each upstream is available, by name. An open circuit is not available."""
        backends = self._backends
        return {name: not backends[name].client.is_circuit_open for name in backends}

    def get_client(self, route: Route) -> UpstreamClient:
        """Return the client of a route's upstream."""
        return self._get_backend(route).client

    def get_context_window(self, route: Route) -> int:
        """Return the context window of a route's model in tokens; 0 if it is unknown."""
        return self._get_backend(route).get_context_window(route.model)

    def report_states(self) -> None:
        """Report the states of the upstreams to the metrics."""
        for name, backend in self._backends.items():
            self._process.metrics.set_upstream_state(name, **backend.client.snapshot())

    def reusable_backends(
        self, resources: GatewayResources, routing: Routing
    ) -> dict[str, Backend]:
        """Return the backends that a new configuration can reuse, by the names of the upstreams."""
        was_only = len(self._routing.upstreams) == 1
        is_only = len(routing.upstreams) == 1
        if resources is not self._resources or was_only != is_only:
            return {}
        unchanged = [each for each in self._routing.upstreams if each in routing.upstreams]
        return {upstream.name: self._backends[upstream.name] for upstream in unchanged}

    async def create_message(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> GatewayResponse[bytes]:
        """Return the Message for a request. Raises ApiError."""
        context = self._create_context(body, caller, observation)
        routes = self._select_routes(context)
        self._process.retry_budget.record_request()
        message = await self._failover.run(context, routes, self._create_message)
        return GatewayResponse(context.response_status, context.response_headers, message)

    async def open_stream(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> GatewayResponse[MessageStream]:
        """Return the stream of the Message for a request. Raises ApiError.

        The stream may begin before an upstream has responded. A later failure is an `error` event.
        """
        context = self._create_context(body, caller, observation)
        routes = self._select_routes(context)
        self._process.retry_budget.record_request()
        opening_events = context.opening_events
        if any(_is_native(route) for route in routes):
            # A stream that is passed through contains the opening events of the upstream.
            opening_events = list
        stream = DeferredStream(
            self._failover.run(context, routes, self._open_backend_stream),
            opening_events,
            context.request_id,
            partial(self._log_broken_stream, observation),
            context.accepted,
        )
        await stream.start()
        return GatewayResponse(context.response_status, context.response_headers, stream.unwrap())

    async def count_tokens(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> GatewayResponse[bytes]:
        """Return the number of input tokens of a request, without a model run. Raises ApiError."""
        context = self._create_context(body, caller, observation)
        route = self._select_routes(context)[0]
        content = await self._get_backend(route).count_tokens(context, route)
        return GatewayResponse(context.response_status, context.response_headers, content)

    def _create_context(
        self, body: RequestBody, caller: Caller, observation: Observation
    ) -> RequestContext:
        observation.model = body.request["model"]
        observation.is_stream = bool(body.request.get("stream"))
        return RequestContext(
            request=body.request,
            observation=observation,
            caller=caller,
            raw_body=body.raw,
            refusal=_translation_refusal(body),
            retry_plan=RetryPlan(self._max_upstream_requests, budget=self._process.retry_budget),
        )

    def _get_backend(self, route: Route) -> Backend:
        return self._backends[route.upstream.name]

    async def _create_message(self, context: RequestContext, route: Route) -> bytes:
        return await self._get_backend(route).create_message(context, route)

    async def _open_backend_stream(self, context: RequestContext, route: Route) -> MessageStream:
        return await self._get_backend(route).open_stream(context, route)

    def _log_broken_stream(self, observation: Observation, error: Exception) -> None:
        self._log.log_stream_failure(observation.request_id, error)
        observation.record_stream_failure(error)

    def _select_routes(self, context: RequestContext) -> list[Route]:
        """Return the routes in the order in which to try them.

        Raises ApiError if the first route cannot serve the request, because the operator selected
        that route for it.
        """
        groups = self._routing.select_groups(context.request, partial(self._input_tokens, context))
        targets = self._order_targets(groups, context)
        routes = self._routing.build_routes(targets, context.request["model"])
        if context.refusal is not None:
            if not _is_native(routes[0]):
                raise context.refusal
            routes = [route for route in routes if _is_native(route)]
        return self._order_by_availability(routes)

    def _order_by_availability(self, routes: list[Route]) -> list[Route]:
        """Return the routes to try, those of unavailable targets last.

        Upstreams with an open circuit are tried only if all others fail. Of the targets that cool
        down, only the one that is first available again is tried, after all others.
        """
        usable: list[Route] = []
        cooling: list[tuple[float, Route]] = []
        for route in routes:
            seconds = self.get_client(route).seconds_until_usable(route.model)
            if seconds > 0:
                cooling.append((seconds, route))
            else:
                usable.append(route)
        usable.sort(key=lambda route: self.get_client(route).is_circuit_open)
        if cooling:
            usable.append(min(cooling, key=itemgetter(0))[1])
        return usable

    def _order_targets(self, groups: TargetGroups, context: RequestContext) -> list[Target]:
        if self._session_affinity and any(len(group) > 1 for group in groups):
            session = identify_session(context.request, context.caller.headers)
            return order_by_weight(groups, draw_for_session(session))
        return order_by_weight(groups, lambda _: random.random())  # noqa: S311 - not for secrets

    def _input_tokens(self, context: RequestContext) -> int:
        """Estimate the input tokens of a request before a route is selected."""
        if context.refusal is not None:
            return len(context.raw_body) // _BYTES_PER_TOKEN
        model = self._routing.resolve_model(context.request["model"])
        route = Route(self._routing.upstreams[0], model)
        return self._get_backend(route).estimate_tokens(context.request, route)


def _is_native(route: Route) -> bool:
    return route.upstream.api == "messages"


def _translation_refusal(body: RequestBody) -> ApiError | None:
    """Return the error of a request that cannot be translated; None if it can.

    Only an upstream with the Messages API can serve such a request.
    """
    if body.problem is not None:
        return ApiError(400, str(body.problem), details=body.problem.details)
    if not body.request.get("thread"):
        return None
    # When the SDKs receive this code, they send the complete conversation, and use no threads
    # from then on.
    details = {"error_code": "thread_unsupported_request", "unsupported": []}
    text = "thread: this server does not store threads; send the complete conversation"
    return ApiError(400, text, details=details)
