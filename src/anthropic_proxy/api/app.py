"""The application: made from settings, of its parts."""

import asyncio
from typing import cast

from quart import Blueprint, Quart

from anthropic_proxy.api import health as ops
from anthropic_proxy.api import models, openapi, quart_app
from anthropic_proxy.api.asgi import AsgiApplication
from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.messages import MessagesEndpoints
from anthropic_proxy.api.messages_app import MessagesApp
from anthropic_proxy.api.middleware.cors import add_cors
from anthropic_proxy.api.middleware.in_flight import InFlightRequests
from anthropic_proxy.api.middleware.observation import ObservationMiddleware
from anthropic_proxy.auth.api_keys import ClientKeys
from anthropic_proxy.auth.rate_limits import Charges, RateLimits
from anthropic_proxy.auth.sqlite_storage import open_storage
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.gateway import ReloadableGateway
from anthropic_proxy.gateway.upstream_probe import Sharing, UpstreamProber
from anthropic_proxy.observability.exposition import Exposition
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Sink
from anthropic_proxy.observability.request_log import RequestLog
from anthropic_proxy.observability.shortages import ShortageLog, open_files
from anthropic_proxy.observability.tracing import setup
from anthropic_proxy.routing.router import Routing

# Between two looks at the slots and breakers of the upstreams.
_STATE_INTERVAL_SECONDS = 2


class Application:
    """Everything that is served. `asgi` is the ASGI application, `requests` its open requests; `start` before the first
    one, `aclose` after the last.
    """

    def __init__(
        self,
        settings: Settings,
        routing: Routing,
        keys: ClientKeys | None = None,
        probe_sharing: Sharing | None = None,
    ) -> None:
        # The upstreams, and the keys of clients, where they need one.
        self.routing = routing
        self.keys = keys
        secrets = (*routing.secrets, *settings.secrets)
        self.log = Log(verbose=settings.verbose, secrets=secrets, is_client_key=self._is_client_key)
        self.log.cover_libraries()
        # Why the configuration that was found last is not the one in force.
        self.error: str | None = None
        names = [*(settings.model_aliases or {}), *(settings.model_map or {})]
        self.metrics = Metrics(names, settings.metrics_max_models)
        self._shortages = ShortageLog(self.log)
        self._gateway = ReloadableGateway(
            settings, routing, self.log, self.metrics, self._shortages
        )
        self._limits = RateLimits(open_storage(settings.limit_storage), self.log, self.metrics)
        self.prober = UpstreamProber(self.log, lambda: self.routing.endpoints, probe_sharing)
        self.prober.has_config_file = settings.config_file is not None
        health = self._create_health_checks(settings)
        exposition = Exposition(self.metrics, self._report_states)
        has_metrics_port = settings.metrics_port is not None
        access = AccessControl(lambda: self.keys, self._limits)
        self._quart = self._create_quart_app(
            settings,
            ops.create_health_routes(health, None if has_metrics_port else exposition),
            access,
        )
        self._handlers = MessagesEndpoints(
            self._gateway, access, self.log, settings.max_json_values
        ).handlers
        self.in_flight = InFlightRequests(
            MessagesApp(
                cast("AsgiApplication", self._quart),
                self._handlers,
                access,
                self.log,
                settings.body_timeout,
            ),
            max_requests=settings.max_concurrent_requests,
            write_seconds=settings.write_timeout,
            uncounted=ops.PATHS,
        )
        self._traces = setup.traces(settings.environment, self.log, ops.PATHS)
        self.asgi = ObservationMiddleware(
            add_cors(self.in_flight, settings.cors_allowed_origins), self._create_sinks(), self.log
        )
        # Probes and metrics, for a port of their own.
        operations = quart_app.create_quart_app(
            self.log, ops.create_health_routes(health, exposition)
        )
        self._ops_in_flight = InFlightRequests(
            cast("AsgiApplication", operations),
            write_seconds=settings.write_timeout,
            uncounted=ops.PATHS,
        )
        self.ops = ObservationMiddleware(self._ops_in_flight, [], self.log)

    def reload(self, settings: Settings, routing: Routing, keys: ClientKeys | None = None) -> None:
        """Serve the requests to come by other settings."""
        self.routing = routing
        self.keys = keys
        self.log.hide((*routing.secrets, *settings.secrets))
        self._gateway.reload(settings, routing)
        self.prober.has_config_file = settings.config_file is not None
        self.prober.upstreams_changed.set()

    def _is_client_key(self, text: str) -> bool:
        return self.keys is not None and self.keys.knows(text)

    async def start(self) -> None:
        await self._quart.startup()

    async def aclose(self) -> None:
        await self._quart.shutdown()
        await self._gateway.aclose()
        await self._limits.aclose()
        for traces in self._traces:
            await traces.aclose()

    def record_reload(self, reload_error: str | None) -> None:
        """A configuration was put in force, or refused for a reason."""
        self.error = reload_error
        self.metrics.reloaded(refused=reload_error is not None)

    async def drain(self, seconds: float) -> None:
        """Let open requests end, for so many seconds."""
        self.metrics.drains()
        await self.in_flight.drain(seconds)

    async def watch(self) -> None:
        """End the requests whose clients read nothing. Runs until cancelled."""
        await asyncio.gather(self.in_flight.watch(), self._ops_in_flight.watch())

    async def watch_states(self) -> None:
        """Keep what the metrics say of the upstreams up to date, for whichever process is asked, and report it when file
        descriptors are nearly used up. Runs until cancelled.
        """
        while True:
            self._report_states()
            self._shortages.check_files(open_files())
            await asyncio.sleep(_STATE_INTERVAL_SECONDS)

    def _report_states(self) -> None:
        self._gateway.report_states()
        self.metrics.tasks(len(asyncio.all_tasks()))

    def _create_quart_app(
        self, settings: Settings, operation_routes: Blueprint, access: AccessControl
    ) -> Quart:
        openapi_routes = openapi.create_openapi_routes(has_metrics=settings.metrics_port is None)
        app = quart_app.create_quart_app(
            self.log, operation_routes, models.create_model_routes(self._gateway), openapi_routes
        )
        quart_app.require_keys(app, access, ops.PATHS)
        return app

    def _create_sinks(self) -> list[Sink]:
        usage_sink = Charges(self._limits, lambda: self.keys)
        return [
            self.metrics,
            RequestLog(self.log, ops.PATHS),
            usage_sink,
            self.prober,
            *self._traces,
        ]

    def _create_health_checks(self, settings: Settings) -> ops.HealthChecks:
        return ops.HealthChecks(
            is_draining=lambda: self.in_flight.is_draining,
            upstream_availability=self._gateway.upstream_availability,
            probe_results=self.prober.results,
            reload_error=lambda: self.error,
            required=settings.ready_requires,
        )
