"""Context of one client request, shared by routing, failover and the backends."""

from dataclasses import dataclass, field
from functools import partial

from anthropic_proxy.auth.caller import ANONYMOUS, Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.acceptance import Acceptance
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.notes import to_header_text
from anthropic_proxy.translate.response.spec import build_diagnostics
from anthropic_proxy.translate.response.usage import to_usage
from anthropic_proxy.upstream.retry_plan import RetryPlan
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject

UPSTREAM_HEADER = "anthropic-proxy-upstream"
MODEL_HEADER = "anthropic-proxy-model"


@dataclass
class RequestContext:
    """A checked request, its caller, and the status and headers of its response.

    A stream must not refer to it, because the request may be several megabytes.
    """

    request: JsonObject
    observation: Observation
    caller: Caller = ANONYMOUS
    # The body of the request as it was received.
    raw_body: bytes = b""
    # The error if the request cannot be translated, so that only an upstream with the Messages API
    # can serve it. If it is set, only the fields that routing needs have been validated.
    refusal: ApiError | None = None
    retry_plan: RetryPlan = field(default_factory=RetryPlan)
    # The id of the Message, which does not depend on the upstream.
    message_id: str = field(default_factory=partial(new_id, "msg"))
    # Estimated input tokens of the last upstream request.
    input_estimate: int = 0
    # The Message with the summary of the conversation, which all later upstream requests use.
    summary_message: JsonObject | None = None
    # Set when an upstream has accepted the request.
    accepted: Acceptance = field(default_factory=Acceptance)
    response_status: int = 200
    response_headers: dict[str, str] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """The id in logs, errors and the response header."""
        return self.observation.request_id

    @property
    def is_stream(self) -> bool:
        """True if the client requests a stream."""
        return bool(self.request.get("stream"))

    def begin_route(self, route: Route) -> None:
        """Begin a route, and reset the status and headers of an earlier route."""
        self.observation.set_route(route.upstream.name, route.model)
        self.accepted.clear()
        self.response_status = 200
        # The response of a stream that has already begun shares this dictionary.
        self.response_headers.clear()
        self.response_headers[UPSTREAM_HEADER] = to_header_text(route.upstream.name)
        self.response_headers[MODEL_HEADER] = to_header_text(route.model)

    def opening_events(self) -> list[JsonObject]:
        """Return the first events of the stream, before an upstream has responded."""
        usage = to_usage(None, input_estimate=self.input_estimate, output_estimate=0)
        message = events.message(self.message_id, self.request["model"], usage)
        message |= build_diagnostics(self.request)
        return [events.message_start(message), events.ping()]
