"""A request, and the state of its response, before and after a route is selected."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

from anthropic_proxy.auth.caller import ANONYMOUS, Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.notes import to_header_text
from anthropic_proxy.translate.response.spec import build_diagnostics
from anthropic_proxy.translate.response.usage import to_usage
from anthropic_proxy.upstream.retry import RetryAllowance
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

UPSTREAM_HEADER = "anthropic-proxy-upstream"
MODEL_HEADER = "anthropic-proxy-model"


@dataclass
class ResponseState:
    """The state of a response.

    Attributes:
        observation: of the request.
        status: of the response.
        headers: of the response.
        accepted: set when an upstream has accepted the request, so that what follows is its response.
        input_estimate: tokens of the request as it was sent last.
        retry_allowance: limits how often the request is sent to each upstream.
    """

    observation: Observation
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    input_estimate: int = 0
    retry_allowance: RetryAllowance = field(default_factory=RetryAllowance)

    def begin_route(self, route: Route) -> None:
        """Begin a route, and reset what an earlier one left."""
        self.observation.set_route(route.upstream.name, route.model)
        self.status = 200
        self.accepted.clear()
        self.headers.clear()
        names = {UPSTREAM_HEADER: route.upstream.name, MODEL_HEADER: route.model}
        self.headers.update({header: to_header_text(name) for header, name in names.items()})


@dataclass(frozen=True)
class RequestContext:
    """A checked request and its caller.

    Attributes:
        message_id: of the response, whichever upstream sends it.
        raw_body: the body of the request as it came.
        refusal: the error of every upstream that does not have the Messages API itself. If it is set, only what
            routing needs is sure to be valid in the request.
    """

    request: JsonObject
    state: ResponseState
    caller: Caller = ANONYMOUS
    raw_body: bytes = b""
    refusal: ApiError | None = None
    message_id: str = field(default_factory=partial(new_id, "msg"))

    @property
    def request_id(self) -> str:
        """The id in logs, errors and the response header."""
        return self.state.observation.request_id

    def opening_events(self) -> list[JsonObject]:
        """Return the events with which every stream begins, for a response that is yet to come."""
        usage = to_usage(None, input_estimate=self.state.input_estimate, output_estimate=0)
        message = events.message(self.message_id, self.request["model"], usage) | build_diagnostics(
            self.request
        )
        return [events.message_start(message), events.ping()]
