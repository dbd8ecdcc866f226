"""A request that is ready to be sent to an upstream."""

from dataclasses import dataclass, replace

from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.tokens.estimate import TokenEstimate
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class PreparedRequest:
    """A translated request, with the data to send it and to read its response."""

    client: UpstreamClient
    # The API to which the request is sent.
    api: Api
    # A Chat Completions request, without `stream`.
    body: JsonObject
    # The upstream's name of the model.
    model: str
    # Whether the request disables reasoning.
    forbids_thinking: bool
    # Estimate of the input tokens, to be compared with the number that the upstream reports.
    estimate: TokenEstimate
    # The input of the translation of the response.
    spec: ResponseSpec

    def without_body(self) -> "PreparedRequest":
        """Return a copy for a stream, without the body, which may be several megabytes."""
        return replace(self, body={})
