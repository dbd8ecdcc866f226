"""Build the ASGI applications: the API, and probes and metrics for a separate port."""

import asyncio
from collections.abc import Sequence
from typing import cast

from anthropic_proxy.api import models, openapi, quart_app
from anthropic_proxy.api.asgi import AsgiApplication
from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.health import PATHS, HealthChecks, create_health_routes
from anthropic_proxy.api.messages import MessagesEndpoints
from anthropic_proxy.api.messages_app import MessagesApp
from anthropic_proxy.api.middleware.cors import add_cors
from anthropic_proxy.api.middleware.in_flight import InFlightRequests
from anthropic_proxy.api.middleware.observation import ObservationMiddleware
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.reloadable import ReloadableGateway
from anthropic_proxy.observability.exposition import Exposition
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import ObservationSink


class AsgiApps:
    """The ASGI applications of a server.

    Call `start` before the first request and `aclose` after the last request.
    """

    def __init__(  # noqa: PLR0913 - the parts that the applications serve
        self,
        settings: Settings,
        gateway: ReloadableGateway,
        access: AccessControl,
        health: HealthChecks,
        exposition: Exposition,
        *,
        sinks: Sequence[ObservationSink],
        log: Log,
    ) -> None:
        has_metrics = settings.metrics_port is None
        routes = (
            create_health_routes(health, exposition if has_metrics else None),
            models.create_model_routes(gateway),
            openapi.create_openapi_routes(has_metrics=has_metrics),
        )
        self._quart = quart_app.create_quart_app(log, *routes)
        quart_app.require_keys(self._quart, access, PATHS)
        self._handlers = MessagesEndpoints(gateway, access, log, settings.max_json_values).handlers
        framework = cast("AsgiApplication", self._quart)
        messages = MessagesApp(framework, self._handlers, access, log, settings.body_timeout)
        # Open requests of `main`.
        self.in_flight = InFlightRequests(
            messages,
            max_requests=settings.max_concurrent_requests,
            write_seconds=settings.write_timeout,
            uncounted=PATHS,
        )
        # The API.
        self.main = ObservationMiddleware(
            add_cors(self.in_flight, settings.cors_allowed_origins), sinks, log
        )
        operations = quart_app.create_quart_app(log, create_health_routes(health, exposition))
        self._operations_in_flight = InFlightRequests(
            cast("AsgiApplication", operations),
            write_seconds=settings.write_timeout,
            uncounted=PATHS,
        )
        # Probes and metrics.
        self.operations = ObservationMiddleware(self._operations_in_flight, [], log)

    async def start(self) -> None:
        await self._quart.startup()

    async def aclose(self) -> None:
        await self._quart.shutdown()

    async def watch(self) -> None:
        """End requests whose clients do not read their responses. Runs until cancelled."""
        await asyncio.gather(self.in_flight.watch(), self._operations_in_flight.watch())
