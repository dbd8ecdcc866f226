"""The parts joined: checked request in, answer out. One object, made once and handed down; no globals.

request -> routes -> the first of them that answers. Errors leave as ApiError, whichever part they come from.
"""

import random
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from anthropic_proxy import resilience, routing
from anthropic_proxy.answer_stream import opened
from anthropic_proxy.asked import Asked
from anthropic_proxy.attempts import Attempts
from anthropic_proxy.catalogue import Catalogue
from anthropic_proxy.client import NOBODY, Client
from anthropic_proxy.config import Settings
from anthropic_proxy.downloads import Downloads
from anthropic_proxy.endpoint_client import endpoint_client
from anthropic_proxy.endpoints import Endpoint
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.pending_stream import PendingStream, Prepared
from anthropic_proxy.preparation import Preparation
from anthropic_proxy.routing import Route, Routing
from anthropic_proxy.serving import Content, Serving
from anthropic_proxy.translate.signatures import Signer
from anthropic_proxy.upstream import Upstream
from anthropic_proxy.wire.codec import JsonObject


@dataclass(frozen=True)
class Answer:
    """content: a Message, or the events of one: as they come, or all at once. headers: response headers for it."""

    content: Content | PendingStream
    headers: dict[str, str]


class Gateway:
    """Serves checked requests. `catalogue` has the models. `aclose` closes the connections to the upstreams."""

    def __init__(self, settings: Settings, known: Routing, log: Log, upstream: Upstream) -> None:
        self._settings = settings
        self._log = log
        self._upstream = upstream
        secret = settings.signature_secret
        self._signer = Signer(secret.get_secret_value() if secret else None)
        self._preparation = Preparation(self._signer, Downloads(settings.download_policy))
        self._attempts = Attempts(log)
        self._routing = known
        self._serving = {each.name: self._serving_by(each) for each in self._routing.endpoints}
        self.catalogue = Catalogue(self._routing, self._serving)

    async def create(self, request: JsonObject, request_id: str, client: Client = NOBODY) -> Answer:
        """Answer `POST /v1/messages`. Raises ApiError."""
        if request.get("thread"):
            raise _no_threads()
        asked = Asked(request, request_id, client)
        work = self._attempts.first_answer(self._routes(request), partial(self._answer, asked), request_id)
        if not request.get("stream"):
            return Answer(await work, asked.progress.headers)
        events = cast("Coroutine[Any, Any, Prepared]", work)  # no message is made where a stream is wanted
        on_error = partial(self._log.broken_off, request_id)
        stream = PendingStream(events, asked.opening, request_id, on_error, asked.progress.accepted)
        return Answer(await opened(stream), asked.progress.headers)

    async def count_tokens(self, request: JsonObject, client: Client = NOBODY) -> JsonObject:
        """Answer `POST /v1/messages/count_tokens`; the model is not run."""
        chosen = self._routes(request)[0]
        return await self._serving[chosen.endpoint.name].count_tokens(Asked(request, "", client), chosen)

    async def aclose(self) -> None:
        await self._preparation.aclose()
        await self._upstream.aclose()

    def _serving_by(self, endpoint: Endpoint) -> Serving:
        client = endpoint_client(endpoint, self._upstream, alone=len(self._routing.endpoints) == 1)
        recovers = self._settings.tool_call_recovery == "auto"
        return Serving(client, self._preparation, self._signer, self._log, calls_in_text=recovers)

    def _routes(self, request: JsonObject) -> list[Route]:
        groups = self._routing.groups(request, partial(self._input_tokens, request))
        found = routing.routes(resilience.ordered(groups, random.random), request["model"])
        # Those that fail are kept for the case that all do.
        return sorted(found, key=lambda route: self._serving[route.endpoint.name].client.is_left_alone)

    def _input_tokens(self, request: JsonObject) -> int:
        """The size of a request, before it is known who answers it."""
        first = self._routing.endpoints[0]
        return self._serving[first.name].estimate(request, Route(first, request["model"]))

    async def _answer(self, asked: Asked, chosen: Route) -> Content:
        return await self._serving[chosen.endpoint.name].answer(asked, chosen)


def _no_threads() -> ApiError:
    """On this code the SDKs send the whole conversation again, and from then on without a thread."""
    details = {"error_code": "thread_unsupported_request", "unsupported": []}
    return ApiError(400, "thread: this server keeps no threads; send the whole conversation", details=details)
