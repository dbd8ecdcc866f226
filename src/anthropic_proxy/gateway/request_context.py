"""A request under way, before and while it is known who answers it."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

from anthropic_proxy.auth.caller import NOBODY, Client
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.notes import header_text
from anthropic_proxy.translate.response.spec import diagnostics
from anthropic_proxy.translate.response.usage import to_usage
from anthropic_proxy.upstream.retry import RetryAllowance
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

UPSTREAM_HEADER = "anthropic-proxy-upstream"
MODEL_HEADER = "anthropic-proxy-model"


@dataclass
class ResponseState:
    """How far an answer is on its way. observation: of the request, told what becomes of it. status, headers: the
    response's. accepted: an upstream has taken the request, so what follows is its answer. input_estimate: tokens of the
    request as it was sent last. repeats: how often it was sent to each upstream again.
    """

    observation: Observation
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    input_estimate: int = 0
    retry_allowance: RetryAllowance = field(default_factory=RetryAllowance)

    def begin_route(self, route: Route) -> None:
        """A route is asked: what another one left is gone."""
        self.observation.routed(route.endpoint.name, route.model)
        self.status = 200
        self.accepted.clear()
        self.headers.clear()
        names = {UPSTREAM_HEADER: route.endpoint.name, MODEL_HEADER: route.model}
        self.headers.update({header: header_text(name) for header, name in names.items()})


@dataclass(frozen=True)
class RequestContext:
    """A checked request and who asks. message_id: of the answer, whichever upstream gives it. raw: the request's body as it
    came. refusal: why only upstreams that speak the Messages API themselves can be asked; then nothing of the request
    is sure but what routing needs.
    """

    request: JsonObject
    state: ResponseState
    caller: Client = NOBODY
    raw_body: bytes = b""
    refusal: ApiError | None = None
    message_id: str = field(default_factory=partial(new_id, "msg"))

    @property
    def request_id(self) -> str:
        """As logs, errors and the header name it."""
        return self.state.observation.request_id

    def opening_events(self) -> list[JsonObject]:
        """The events with which every stream begins, for one whose answer is yet to come."""
        usage = to_usage(None, input_estimate=self.state.input_estimate, output_estimate=0)
        message = events.message(self.message_id, self.request["model"], usage) | diagnostics(
            self.request
        )
        return [events.message_start(message), events.ping()]
