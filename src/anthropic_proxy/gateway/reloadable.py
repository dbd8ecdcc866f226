"""Hold the gateway of the current configuration, and replace it at a reload."""

import time

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.backend import Backend
from anthropic_proxy.gateway.gateway import Gateway
from anthropic_proxy.gateway.passthrough_backend import PassthroughBackend
from anthropic_proxy.gateway.resources import GatewayResources, ProcessResources
from anthropic_proxy.gateway.translating_backend import TranslatingBackend
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.resource_exhaustion import ExhaustionLog
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.upstream.retry import RetryBudget


class ReloadableGateway:
    """The gateway of the current configuration, and the resources of all configurations so far.

    A request that began before a reload is finished by the gateway of the former configuration.
    """

    def __init__(
        self,
        settings: Settings,
        routing: Routing,
        log: Log,
        metrics: Metrics,
        shortages: ExhaustionLog,
    ) -> None:
        http_client = UpstreamHTTPClient(
            max_bytes=settings.max_upstream_bytes, on_shortage=shortages.report
        )
        self._process = ProcessResources(
            log,
            metrics,
            http_client,
            shortages,
            TranslationThreads(),
            RetryBudget(time.monotonic),
        )
        self._resources = [GatewayResources.create(settings, self._process)]
        self.current = Gateway(
            self._resources[-1],
            routing,
            self._process,
            create_backend,
            max_upstream_requests=settings.max_upstream_requests,
            session_affinity=settings.session_affinity,
        )

    def report_states(self) -> None:
        """Report the states of the upstreams to the metrics."""
        self.current.report_states()

    def upstream_availability(self) -> dict[str, bool]:
        """Return whether each upstream of the current configuration is available, by name."""
        return self.current.upstream_availability()

    def reload(self, settings: Settings, routing: Routing) -> None:
        """Serve new requests with another configuration."""
        if not self._resources[-1].matches(settings):
            self._resources.append(GatewayResources.create(settings, self._process))
        self._process.http_client.max_bytes = settings.max_upstream_bytes
        self.current = Gateway(
            self._resources[-1],
            routing,
            self._process,
            create_backend,
            self.current,
            max_upstream_requests=settings.max_upstream_requests,
            session_affinity=settings.session_affinity,
        )

    async def aclose(self) -> None:
        """Close the connections to the upstreams, and end all processes and threads."""
        for resources in self._resources:
            await resources.translator.aclose()
        self._process.threads.close()
        await self._process.http_client.aclose()


def create_backend(
    upstream: Upstream, resources: GatewayResources, process: ProcessResources, *, is_only: bool
) -> Backend:
    """Create the backend of an upstream. is_only: whether no other upstream is configured."""
    client = create_upstream_client(upstream, process.http_client, process.metrics, is_only=is_only)
    if upstream.api == "messages":
        return PassthroughBackend(client, process.log, process.metrics)
    return TranslatingBackend(
        client,
        resources.translator,
        resources.signer,
        AdaptiveSender(process.log, process.metrics),
        calls_in_text=resources.recovers_calls,
    )
