"""Create the application and its parts from the settings."""

import asyncio

from anthropic_proxy.api.asgi_apps import AsgiApps
from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.health import PATHS, HealthChecks
from anthropic_proxy.auth.api_keys import ApiKeyRegistry
from anthropic_proxy.auth.counter_storage import open_storage
from anthropic_proxy.auth.rate_limits import RateLimiter, TokenUsageSink
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.reloadable import ReloadableGateway
from anthropic_proxy.gateway.upstream_probe import Sharing, UpstreamProber
from anthropic_proxy.observability.exposition import Exposition
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import ObservationSink
from anthropic_proxy.observability.request_log import RequestLog
from anthropic_proxy.observability.resource_exhaustion import ExhaustionLog, count_open_files
from anthropic_proxy.observability.tracing import setup
from anthropic_proxy.routing.router import Routing

# Interval at which the metrics of the upstreams (concurrency, circuit breakers) are updated.
_STATE_INTERVAL_SECONDS = 2


class Application:
    """All parts of a server, created from its settings.

    Call `start` before the first request and `aclose` after the last request.
    """

    def __init__(
        self,
        settings: Settings,
        routing: Routing,
        keys: ApiKeyRegistry | None = None,
        probe_sharing: Sharing | None = None,
    ) -> None:
        self.routing = routing
        # API keys of clients; None if requests need no key.
        self.keys = keys
        secrets = (*routing.secrets, *settings.secrets)
        self.log = Log(verbose=settings.verbose, secrets=secrets, is_api_key=self._is_api_key)
        self.log.redact_libraries()
        # Reason for the rejection of the last reload; None if it succeeded.
        self.reload_error: str | None = None
        names = [*(settings.model_aliases or {}), *(settings.model_map or {})]
        self.metrics = Metrics(names, settings.metrics_max_models)
        self._shortages = ExhaustionLog(self.log)
        self._gateway = ReloadableGateway(
            settings, routing, self.log, self.metrics, self._shortages
        )
        self._limits = RateLimiter(open_storage(settings.limit_storage), self.log, self.metrics)
        self.prober = UpstreamProber(self.log, lambda: self.routing.upstreams, probe_sharing)
        self.prober.has_config_file = settings.config_file is not None
        self._traces = setup.create_trace_exporters(settings.environment, self.log, PATHS)
        self._apps = AsgiApps(
            settings,
            self._gateway,
            AccessControl(lambda: self.keys, self._limits),
            self._create_health_checks(settings),
            Exposition(self.metrics, self._report_states),
            sinks=self._create_sinks(),
            log=self.log,
        )
        # The API.
        self.asgi = self._apps.main
        # Probes and metrics for a separate port.
        self.ops = self._apps.operations
        # Open requests of `asgi`.
        self.in_flight = self._apps.in_flight

    def reload(
        self, settings: Settings, routing: Routing, keys: ApiKeyRegistry | None = None
    ) -> None:
        """Apply changed settings to new requests."""
        self.routing = routing
        self.keys = keys
        self.log.add_secrets((*routing.secrets, *settings.secrets))
        self._gateway.reload(settings, routing)
        self.prober.has_config_file = settings.config_file is not None
        self.prober.upstreams_changed.set()

    def _is_api_key(self, text: str) -> bool:
        return self.keys is not None and self.keys.contains(text)

    async def start(self) -> None:
        await self._apps.start()

    async def aclose(self) -> None:
        await self._apps.aclose()
        await self._gateway.aclose()
        await self._limits.aclose()
        for traces in self._traces:
            await traces.aclose()

    def record_reload(self, error: str | None) -> None:
        """Record the result of a reload. error: reason for a rejection; None after a success."""
        self.reload_error = error
        self.metrics.count_reload(is_rejected=error is not None)

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for open requests to finish, then cancel them."""
        self.metrics.set_draining()
        await self.in_flight.drain(seconds)

    async def watch(self) -> None:
        """End requests whose clients do not read their responses. Runs until cancelled."""
        await self._apps.watch()

    async def watch_states(self) -> None:
        """Update the metrics of the upstreams, and warn when file descriptors run out.

        Each worker updates its own values, which are added up for a scrape. Runs until cancelled.
        """
        while True:
            self._report_states()
            self._shortages.check_files(count_open_files())
            await asyncio.sleep(_STATE_INTERVAL_SECONDS)

    def _report_states(self) -> None:
        self._gateway.report_states()
        self.metrics.set_task_count(len(asyncio.all_tasks()))

    def _create_sinks(self) -> list[ObservationSink]:
        usage_sink = TokenUsageSink(self._limits, lambda: self.keys)
        return [
            self.metrics,
            RequestLog(self.log, PATHS),
            usage_sink,
            self.prober,
            *self._traces,
        ]

    def _create_health_checks(self, settings: Settings) -> HealthChecks:
        return HealthChecks(
            is_draining=lambda: self.in_flight.is_draining,
            upstream_availability=self._gateway.upstream_availability,
            probe_results=self.prober.results,
            reload_error=lambda: self.reload_error,
            required=settings.ready_requires,
        )
