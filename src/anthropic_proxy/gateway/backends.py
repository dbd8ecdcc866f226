"""Create the backend of an upstream."""

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.backend import Backend
from anthropic_proxy.gateway.passthrough_backend import PassthroughBackend
from anthropic_proxy.gateway.resources import GatewayResources, ProcessResources
from anthropic_proxy.gateway.translating_backend import TranslatingBackend
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import create_upstream_client


def create_backend(
    upstream: Upstream, resources: GatewayResources, process: ProcessResources, *, is_only: bool
) -> Backend:
    """Create the backend of an upstream. is_only: no other upstream is configured."""
    client = create_upstream_client(upstream, process.http_client, process.metrics, is_only=is_only)
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
