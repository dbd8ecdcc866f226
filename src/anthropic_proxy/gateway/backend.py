"""Interface of a backend, which serves requests with one upstream."""

from typing import Protocol

from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.streams.message_stream import MessageStream
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject


class Backend(Protocol):
    """Serves requests with one upstream. All methods that send requests raise ApiError."""

    @property
    def client(self) -> UpstreamClient:
        """The client of the upstream."""

    async def create_message(self, context: RequestContext, route: Route) -> bytes:
        """Send a request, and return the Message as JSON."""

    async def open_stream(self, context: RequestContext, route: Route) -> MessageStream:
        """Send a request, and return the stream of its Message when its first content arrives."""

    async def count_tokens(self, context: RequestContext, route: Route) -> bytes:
        """Return the response to `POST /v1/messages/count_tokens` as JSON."""

    async def read_successful_body(
        self, client: UpstreamClient, response: UpstreamResponse, request_id: str
    ) -> bytes:
        """Return the body of a successful response. Raises ApiError for an unsuccessful one."""

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:
        """Return an estimate of a checked request's input tokens. Sends nothing to the upstream."""

    def get_context_window(self, model: str) -> int:
        """Return the context window of a model in tokens; 0 if it is unknown."""

    def describe_memory(self, model: str) -> JsonObject:
        """Return the backend's memory of a model as JSON."""
