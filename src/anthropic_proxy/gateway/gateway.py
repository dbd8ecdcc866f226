"""The parts joined: checked request in, answer out. One object, made once and handed down; no globals.

request -> routes -> the first of them that answers. Errors leave as ApiError, whichever part they come from.
"""

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

from anthropic_proxy.auth.caller import Client
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.downloads import FileDownloader
from anthropic_proxy.gateway.failover import Failover
from anthropic_proxy.gateway.model_list import ModelList
from anthropic_proxy.gateway.passthrough_backend import PassthroughBackend
from anthropic_proxy.gateway.pdf_process import PdfReader
from anthropic_proxy.gateway.request_context import RequestContext, ResponseState
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.streams.deferred import DeferredStream, StreamResult
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.gateway.streams.translated import TranslatedStream, start_stream
from anthropic_proxy.gateway.translating_backend import TranslatingBackend
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.observability.shortages import ShortageLog
from anthropic_proxy.routing import router
from anthropic_proxy.routing.router import Route, Routing
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.upstream import retry
from anthropic_proxy.upstream.client import create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.wire.anthropic.request import Body
from anthropic_proxy.wire.json_codec import JsonObject

# Of a request that nobody here understands; rather too many tokens.
_BYTES_PER_TOKEN = 4

# What an upstream answers with; see Serving and Passing.
ResponseContent = JsonObject | bytes | TranslatedStream | PassthroughStream | list[JsonObject]


@dataclass(frozen=True)
class GatewayResponse:
    """content: a Message (bytes are passed through), or the events of one: as they come, or all at once. headers and
    status: of the response.
    """

    content: ResponseContent | DeferredStream
    headers: dict[str, str]
    status: int = 200


@dataclass(frozen=True)
class GatewayResources:
    """What requests are served with besides the upstreams. recovers_calls: whether calls written as text are made calls."""

    preparation: RequestPreparer
    signer: Signer
    recovers_calls: bool
    settings: Settings

    @classmethod
    def create(cls, settings: Settings, process: "ProcessResources") -> Self:
        """New ones."""
        secret = settings.signature_secret
        signer = Signer(secret.get_secret_value() if secret else None)
        report = process.shortages.report
        downloads = FileDownloader(settings.download_policy, on_shortage=report)
        preparation = RequestPreparer(
            signer, downloads, PdfReader(process.log, on_shortage=report), process.threads
        )
        return cls(preparation, signer, settings.tool_call_recovery == "auto", settings)

    def matches(self, settings: Settings) -> bool:
        """Whether other settings would make the same."""
        names = ("signature_secret", "download_policy", "tool_call_recovery")
        return all(getattr(self.settings, name) == getattr(settings, name) for name in names)


@dataclass(frozen=True)
class ProcessResources:
    """What the process has once, whatever its configuration."""

    log: Log
    metrics: Metrics
    http_client: UpstreamHTTPClient
    shortages: ShortageLog
    threads: TranslationThreads


class Gateway:
    """Serves checked requests, as one configuration says. `catalogue` has the models."""

    def __init__(
        self,
        resources: GatewayResources,
        routing: Routing,
        process: ProcessResources,
        previous: "Gateway | None" = None,
    ) -> None:
        """previous: the gateway of the configuration before. What is known of upstreams that are still the same is kept:
        their slots, breakers and keys, and what was learned of their models.
        """
        self._resources = resources
        self._process = process
        self._log = process.log
        self._failover = Failover(process.log, process.metrics)
        self._routing = routing
        reusable = previous._reusable_backends(resources, routing) if previous else {}  # noqa: SLF001 - another of the same
        self._backends = {
            upstream.name: reusable.get(upstream.name) or self._create_backend(upstream)
            for upstream in routing.endpoints
        }
        self.model_list = ModelList(self._routing, self._backends)

    def upstream_availability(self) -> dict[str, bool]:
        """The names of the upstreams, and whether each is asked: one that failed several times in a row is left alone."""
        return {
            name: not backend.client.is_circuit_open for name, backend in self._backends.items()
        }

    def report_states(self) -> None:
        """Tell the metrics how the upstreams are just now."""
        for name, backend in self._backends.items():
            self._process.metrics.upstream_state(name, **backend.client.snapshot())

    async def create_message(
        self, body: Body, caller: Client, observation: Observation
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
        stream = await start_stream(
            DeferredStream(
                stream_run, opening, context.request_id, on_error, context.state.accepted
            )
        )
        return GatewayResponse(stream, context.state.headers, context.state.status)

    async def count_tokens(
        self, body: Body, caller: Client, observation: Observation
    ) -> GatewayResponse:
        """Answer `POST /v1/messages/count_tokens`; the model is not run. Raises ApiError."""
        context = _create_context(body, caller, observation)
        route = self._select_routes(context)[0]
        content = await self._backends[route.endpoint.name].count_tokens(context, route)
        return GatewayResponse(content, context.state.headers, context.state.status)

    def _log_broken_stream(self, observation: Observation, error: Exception) -> None:
        self._log.broken_off(observation.request_id, error)
        observation.broken_off(error)

    def _reusable_backends(
        self, resources: GatewayResources, routing: Routing
    ) -> dict[str, TranslatingBackend | PassthroughBackend]:
        """What serves the endpoints that are the same in another configuration, by their names."""
        is_only = len(self._routing.endpoints) == 1
        if resources is not self._resources or is_only != (len(routing.endpoints) == 1):
            return {}
        return {
            upstream.name: self._backends[upstream.name]
            for upstream in self._routing.endpoints
            if upstream in routing.endpoints
        }

    def _create_backend(self, upstream: Endpoint) -> TranslatingBackend | PassthroughBackend:
        resources, process = self._resources, self._process
        is_only = len(self._routing.endpoints) == 1
        client = create_upstream_client(
            upstream, process.http_client, process.metrics, is_only=is_only
        )
        if upstream.api == "messages":
            return PassthroughBackend(client, process.log)
        sender = AdaptiveSender(process.log, process.metrics)
        return TranslatingBackend(
            client,
            resources.preparation,
            resources.signer,
            sender,
            calls_in_text=resources.recovers_calls,
        )

    def _select_routes(self, context: RequestContext) -> list[Route]:
        """Who is asked, in order. Raises ApiError when the first can't be, as the request was meant for that one."""
        groups = self._routing.groups(context.request, partial(self._input_tokens, context))
        routes = router.routes(
            retry.shuffle_by_weight(groups, random.random), context.request["model"]
        )
        if context.refusal is not None:
            if not _is_native(routes[0]):
                raise context.refusal
            routes = list(filter(_is_native, routes))
        # Those that fail are kept for the case that all do.
        return sorted(
            routes, key=lambda route: self._backends[route.endpoint.name].client.is_circuit_open
        )

    def _input_tokens(self, context: RequestContext) -> int:
        """The size of a request, before it is known who answers it."""
        if context.refusal is not None:
            return len(context.raw_body) // _BYTES_PER_TOKEN
        first = self._routing.endpoints[0]
        return self._backends[first.name].estimate_tokens(
            context.request, Route(first, context.request["model"])
        )

    async def _send_to_backend(self, context: RequestContext, route: Route) -> ResponseContent:
        return await self._backends[route.endpoint.name].create_message(context, route)


class ReloadableGateway:
    """The gateways of the configurations that were in force, one after the other. A request stays with the one that it
    began with.
    """

    def __init__(
        self,
        settings: Settings,
        routing: Routing,
        log: Log,
        metrics: Metrics,
        shortages: ShortageLog,
    ) -> None:
        http_client = UpstreamHTTPClient(
            max_bytes=settings.max_upstream_bytes, on_shortage=shortages.report
        )
        self._process = ProcessResources(log, metrics, http_client, shortages, TranslationThreads())
        self._resources = [GatewayResources.create(settings, self._process)]
        self.current = Gateway(self._resources[-1], routing, self._process)

    def report_states(self) -> None:
        """Tell the metrics how the upstreams are just now."""
        self.current.report_states()

    def upstream_availability(self) -> dict[str, bool]:
        """As `Gateway.upstreams`, of the one in force."""
        return self.current.upstream_availability()

    def reload(self, settings: Settings, routing: Routing) -> None:
        """Serve the requests to come as another configuration says."""
        if not self._resources[-1].matches(settings):
            self._resources.append(GatewayResources.create(settings, self._process))
        self._process.http_client.max_bytes = settings.max_upstream_bytes
        self.current = Gateway(self._resources[-1], routing, self._process, self.current)

    async def aclose(self) -> None:
        """Close the connections to the upstreams, and end all processes and threads."""
        for resources in self._resources:
            await resources.preparation.aclose()
        self._process.threads.close()
        await self._process.http_client.aclose()


def _create_context(body: Body, caller: Client, observation: Observation) -> RequestContext:
    observation.model, observation.is_stream = (
        body.request["model"],
        bool(body.request.get("stream")),
    )
    return RequestContext(
        body.request, ResponseState(observation), caller, body.raw, _translation_refusal(body)
    )


def _is_native(route: Route) -> bool:
    return route.endpoint.api == "messages"


def _translation_refusal(body: Body) -> ApiError | None:
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
