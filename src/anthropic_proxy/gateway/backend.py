"""What the gateway needs of a backend: the requests to one upstream, translated or passed through."""

from typing import Protocol

from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import RawResponse
from anthropic_proxy.wire.json_codec import JsonObject

# A Message, as JSON or as bytes that are passed through; or its events, as a stream or all at once.
ResponseContent = JsonObject | bytes | TranslatedStream | PassthroughStream | list[JsonObject]


class Backend(Protocol):
    """Serves requests by one upstream."""

    @property
    def client(self) -> UpstreamClient:
        """The client of the upstream."""

    async def create_message(self, context: RequestContext, route: Route) -> ResponseContent:
        """Send the request, and return the response to `POST /v1/messages`. Raises ApiError."""

    async def count_tokens(self, context: RequestContext, route: Route) -> bytes | JsonObject:
        """Return the response to `POST /v1/messages/count_tokens`. Raises ApiError."""

    async def read_ok(
        self, client: UpstreamClient, response: RawResponse, request_id: str
    ) -> bytes:
        """Return the body of a successful response. Raises ApiError for any other."""

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:
        """Return the input tokens of a checked request, without a request to the upstream."""

    def describe_memory(self, model: str) -> JsonObject:
        """Return what the backend remembers of a model, as JSON."""
