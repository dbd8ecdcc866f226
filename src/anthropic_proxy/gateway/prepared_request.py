"""A request that is ready to be sent to an upstream."""

from dataclasses import dataclass, replace

from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.tokens.estimate import TokenEstimate
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class PreparedRequest:
    """A translated request, with what sending it and reading its response need."""

    client: UpstreamClient
    # The API by which the request is sent.
    api: Api
    # A Chat Completions request, without `stream`.
    body: JsonObject
    # The upstream's name of the model.
    model: str
    # Whether the request turns reasoning off.
    forbids_thinking: bool
    # Compared with the tokens that the upstream reports.
    estimate: TokenEstimate
    # What the translation of the response needs.
    spec: ResponseSpec

    def without_body(self) -> "PreparedRequest":
        """Return the request without its body, which may have megabytes: streams last long."""
        return replace(self, body={})
