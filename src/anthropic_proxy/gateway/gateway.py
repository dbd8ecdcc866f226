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
from anthropic_proxy.gateway.adaptive_sender import Sender
from anthropic_proxy.gateway.downloads import Downloads
from anthropic_proxy.gateway.failover import Attempts
from anthropic_proxy.gateway.model_list import Catalogue
from anthropic_proxy.gateway.passthrough_backend import Passing
from anthropic_proxy.gateway.pdf_process import PdfReader
from anthropic_proxy.gateway.request_context import Asked, Progress
from anthropic_proxy.gateway.request_preparation import Preparation
from anthropic_proxy.gateway.streams.deferred import PendingStream, Prepared
from anthropic_proxy.gateway.streams.passthrough import PassedStream
from anthropic_proxy.gateway.streams.translated import AnswerStream, opened
from anthropic_proxy.gateway.translating_backend import Serving
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
from anthropic_proxy.upstream.client import endpoint_client
from anthropic_proxy.upstream.http_client import Upstream
from anthropic_proxy.wire.anthropic.request import Body
from anthropic_proxy.wire.json_codec import JsonObject

# Of a request that nobody here understands; rather too many tokens.
_BYTES_PER_TOKEN = 4

# What an upstream answers with; see Serving and Passing.
Content = JsonObject | bytes | AnswerStream | PassedStream | list[JsonObject]


@dataclass(frozen=True)
class Answer:
    """content: a Message (bytes are passed through), or the events of one: as they come, or all at once. headers and
    status: of the response.
    """

    content: Content | PendingStream
    headers: dict[str, str]
    status: int = 200


@dataclass(frozen=True)
class Parts:
    """What requests are served with besides the upstreams. recovers_calls: whether calls written as text are made calls."""

    preparation: Preparation
    signer: Signer
    recovers_calls: bool
    settings: Settings

    @classmethod
    def of(cls, settings: Settings, process: "Process") -> Self:
        """New ones."""
        secret = settings.signature_secret
        signer = Signer(secret.get_secret_value() if secret else None)
        report = process.shortages.report
        downloads = Downloads(settings.download_policy, on_shortage=report)
        preparation = Preparation(
            signer, downloads, PdfReader(process.log, on_shortage=report), process.threads
        )
        return cls(preparation, signer, settings.tool_call_recovery == "auto", settings)

    def fit(self, settings: Settings) -> bool:
        """Whether other settings would make the same."""
        names = ("signature_secret", "download_policy", "tool_call_recovery")
        return all(getattr(self.settings, name) == getattr(settings, name) for name in names)


@dataclass(frozen=True)
class Process:
    """What the process has once, whatever its configuration."""

    log: Log
    metrics: Metrics
    upstream: Upstream
    shortages: ShortageLog
    threads: TranslationThreads


class Gateway:
    """Serves checked requests, as one configuration says. `catalogue` has the models."""

    def __init__(
        self, parts: Parts, known: Routing, process: Process, previous: "Gateway | None" = None
    ) -> None:
        """previous: the gateway of the configuration before. What is known of upstreams that are still the same is kept:
        their slots, breakers and keys, and what was learned of their models.
        """
        self._parts = parts
        self._process = process
        self._log = process.log
        self._attempts = Attempts(process.log, process.metrics)
        self._routing = known
        kept = previous._kept(parts, known) if previous else {}  # noqa: SLF001 - another of the same
        self._serving = {
            each.name: kept.get(each.name) or self._serving_by(each) for each in known.endpoints
        }
        self.catalogue = Catalogue(self._routing, self._serving)

    def upstreams(self) -> dict[str, bool]:
        """The names of the upstreams, and whether each is asked: one that failed several times in a row is left alone."""
        return {name: not serving.client.is_left_alone for name, serving in self._serving.items()}

    def tell_states(self) -> None:
        """Tell the metrics how the upstreams are just now."""
        for name, serving in self._serving.items():
            self._process.metrics.upstream_state(name, **serving.client.state())

    async def create(self, body: Body, client: Client, observation: Observation) -> Answer:
        """Answer `POST /v1/messages`. Raises ApiError."""
        asked = _asked(body, client, observation)
        routes = self._routes(asked)
        work = self._attempts.first_answer(routes, partial(self._answer, asked), asked.progress)
        if not asked.request.get("stream"):
            return Answer(await work, asked.progress.headers, asked.progress.status)
        events = cast(
            "Coroutine[Any, Any, Prepared]", work
        )  # no message is made where a stream is wanted
        # A stream that is passed through has its own beginning.
        opening: Callable[[], list[JsonObject]] = (
            list if any(map(_is_native, routes)) else asked.opening
        )
        on_error = partial(self._broken_off, observation)
        stream = await opened(
            PendingStream(events, opening, asked.request_id, on_error, asked.progress.accepted)
        )
        return Answer(stream, asked.progress.headers, asked.progress.status)

    async def count_tokens(self, body: Body, client: Client, observation: Observation) -> Answer:
        """Answer `POST /v1/messages/count_tokens`; the model is not run. Raises ApiError."""
        asked = _asked(body, client, observation)
        chosen = self._routes(asked)[0]
        counted = await self._serving[chosen.endpoint.name].count_tokens(asked, chosen)
        return Answer(counted, asked.progress.headers, asked.progress.status)

    def _broken_off(self, observation: Observation, error: Exception) -> None:
        self._log.broken_off(observation.request_id, error)
        observation.broken_off(error)

    def _kept(self, parts: Parts, known: Routing) -> dict[str, Serving | Passing]:
        """What serves the endpoints that are the same in another configuration, by their names."""
        is_alone = len(self._routing.endpoints) == 1
        if parts is not self._parts or is_alone != (len(known.endpoints) == 1):
            return {}
        return {
            each.name: self._serving[each.name]
            for each in self._routing.endpoints
            if each in known.endpoints
        }

    def _serving_by(self, endpoint: Endpoint) -> Serving | Passing:
        parts, process = self._parts, self._process
        alone = len(self._routing.endpoints) == 1
        client = endpoint_client(endpoint, process.upstream, process.metrics, alone=alone)
        if endpoint.api == "messages":
            return Passing(client, process.log)
        sender = Sender(process.log, process.metrics)
        return Serving(
            client, parts.preparation, parts.signer, sender, calls_in_text=parts.recovers_calls
        )

    def _routes(self, asked: Asked) -> list[Route]:
        """Who is asked, in order. Raises ApiError when the first can't be, as the request was meant for that one."""
        groups = self._routing.groups(asked.request, partial(self._input_tokens, asked))
        found = router.routes(retry.ordered(groups, random.random), asked.request["model"])
        if asked.refusal is not None:
            if not _is_native(found[0]):
                raise asked.refusal
            found = list(filter(_is_native, found))
        # Those that fail are kept for the case that all do.
        return sorted(
            found, key=lambda route: self._serving[route.endpoint.name].client.is_left_alone
        )

    def _input_tokens(self, asked: Asked) -> int:
        """The size of a request, before it is known who answers it."""
        if asked.refusal is not None:
            return len(asked.raw) // _BYTES_PER_TOKEN
        first = self._routing.endpoints[0]
        return self._serving[first.name].estimate(
            asked.request, Route(first, asked.request["model"])
        )

    async def _answer(self, asked: Asked, chosen: Route) -> Content:
        return await self._serving[chosen.endpoint.name].answer(asked, chosen)


class Generations:
    """The gateways of the configurations that were in force, one after the other. A request stays with the one that it
    began with.
    """

    def __init__(
        self, settings: Settings, known: Routing, log: Log, metrics: Metrics, shortages: ShortageLog
    ) -> None:
        upstream = Upstream(max_bytes=settings.max_upstream_bytes, on_shortage=shortages.report)
        self._process = Process(log, metrics, upstream, shortages, TranslationThreads())
        self._parts = [Parts.of(settings, self._process)]
        self.current = Gateway(self._parts[-1], known, self._process)

    def tell_states(self) -> None:
        """Tell the metrics how the upstreams are just now."""
        self.current.tell_states()

    def upstreams(self) -> dict[str, bool]:
        """As `Gateway.upstreams`, of the one in force."""
        return self.current.upstreams()

    def replace(self, settings: Settings, known: Routing) -> None:
        """Serve the requests to come as another configuration says."""
        if not self._parts[-1].fit(settings):
            self._parts.append(Parts.of(settings, self._process))
        self._process.upstream.max_bytes = settings.max_upstream_bytes
        self.current = Gateway(self._parts[-1], known, self._process, self.current)

    async def aclose(self) -> None:
        """Close the connections to the upstreams, and end all processes and threads."""
        for parts in self._parts:
            await parts.preparation.aclose()
        self._process.threads.close()
        await self._process.upstream.aclose()


def _asked(body: Body, client: Client, observation: Observation) -> Asked:
    observation.model, observation.is_stream = (
        body.request["model"],
        bool(body.request.get("stream")),
    )
    return Asked(body.request, Progress(observation), client, body.raw, _refusal(body))


def _is_native(route: Route) -> bool:
    return route.endpoint.api == "messages"


def _refusal(body: Body) -> ApiError | None:
    """What all upstreams but native ones say to a request."""
    if body.problem is not None:
        return ApiError(400, str(body.problem), details=body.problem.details)
    return _no_threads() if body.request.get("thread") else None


def _no_threads() -> ApiError:
    """On this code the SDKs send the whole conversation again, and from then on without a thread."""
    details = {"error_code": "thread_unsupported_request", "unsupported": []}
    return ApiError(
        400, "thread: this server keeps no threads; send the whole conversation", details=details
    )
