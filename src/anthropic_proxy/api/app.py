"""The application: made from settings, of its parts."""

import asyncio
from typing import cast

from quart import Blueprint, Quart

from anthropic_proxy.api import health as ops
from anthropic_proxy.api import models, openapi, quart_app
from anthropic_proxy.api.asgi import AsgiApplication
from anthropic_proxy.api.auth import Access
from anthropic_proxy.api.messages import Messages
from anthropic_proxy.api.messages_app import Endpoints
from anthropic_proxy.api.middleware.cors import cors
from anthropic_proxy.api.middleware.in_flight import OpenRequests
from anthropic_proxy.api.middleware.observation import Observed
from anthropic_proxy.auth.api_keys import ClientKeys
from anthropic_proxy.auth.rate_limits import Charges, RateLimits
from anthropic_proxy.auth.sqlite_storage import open_storage
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.gateway import Generations
from anthropic_proxy.gateway.upstream_probe import Prober, Sharing
from anthropic_proxy.observability.exposition import Exposition
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Sink
from anthropic_proxy.observability.request_log import RequestLog
from anthropic_proxy.observability.shortages import ShortageLog, open_files
from anthropic_proxy.observability.tracing import setup
from anthropic_proxy.routing.router import Routing

# Between two looks at the slots and breakers of the upstreams.
_STATE_SECONDS = 2


class Application:
    """Everything that is served. `asgi` is the ASGI application, `requests` its open requests; `start` before the first
    one, `aclose` after the last.
    """

    def __init__(
        self,
        settings: Settings,
        known: Routing,
        keys: ClientKeys | None = None,
        probe_sharing: Sharing | None = None,
    ) -> None:
        # The upstreams, and the keys of clients, where they need one.
        self.known = known
        self.keys = keys
        secrets = (*known.secrets, *settings.secrets)
        self.log = Log(verbose=settings.verbose, secrets=secrets, is_client_key=self._is_client_key)
        self.log.cover_libraries()
        # Why the configuration that was found last is not the one in force.
        self.refused: str | None = None
        names = [*(settings.model_aliases or {}), *(settings.model_map or {})]
        self.metrics = Metrics(names, settings.metrics_max_models)
        self._shortages = ShortageLog(self.log)
        self._gateways = Generations(settings, known, self.log, self.metrics, self._shortages)
        self._limits = RateLimits(open_storage(settings.limit_storage), self.log, self.metrics)
        self.prober = Prober(self.log, lambda: self.known.endpoints, probe_sharing)
        self.prober.has_config_file = settings.config_file is not None
        health = self._health(settings)
        exposition = Exposition(self.metrics, self._tell_states)
        has_port = settings.metrics_port is not None
        access = Access(lambda: self.keys, self._limits)
        self._quart = self._made(
            settings, ops.routes(health, None if has_port else exposition), access
        )
        self._endpoints = Messages(
            self._gateways, access, self.log, settings.max_json_values
        ).endpoints
        self.requests = OpenRequests(
            Endpoints(
                cast("AsgiApplication", self._quart),
                self._endpoints,
                access,
                self.log,
                settings.body_timeout,
            ),
            most=settings.max_concurrent_requests,
            write_seconds=settings.write_timeout,
            uncounted=ops.PATHS,
        )
        self._traces = setup.traces(settings.environment, self.log, ops.PATHS)
        self.asgi = Observed(
            cors(self.requests, settings.cors_allowed_origins), self._sinks(), self.log
        )
        # Probes and metrics, for a port of their own.
        operations = quart_app.application(self.log, ops.routes(health, exposition))
        self._ops_requests = OpenRequests(
            cast("AsgiApplication", operations),
            write_seconds=settings.write_timeout,
            uncounted=ops.PATHS,
        )
        self.ops = Observed(self._ops_requests, [], self.log)

    def reload(self, settings: Settings, known: Routing, keys: ClientKeys | None = None) -> None:
        """Serve the requests to come by other settings."""
        self.known = known
        self.keys = keys
        self.log.hide((*known.secrets, *settings.secrets))
        self._gateways.replace(settings, known)
        self.prober.has_config_file = settings.config_file is not None
        self.prober.wanted.set()

    def _is_client_key(self, text: str) -> bool:
        return self.keys is not None and self.keys.knows(text)

    async def start(self) -> None:
        await self._quart.startup()

    async def aclose(self) -> None:
        await self._quart.shutdown()
        await self._gateways.aclose()
        await self._limits.aclose()
        for traces in self._traces:
            await traces.aclose()

    def reloaded(self, refused: str | None) -> None:
        """A configuration was put in force, or refused for a reason."""
        self.refused = refused
        self.metrics.reloaded(refused=refused is not None)

    async def drain(self, seconds: float) -> None:
        """Let open requests end, for so many seconds."""
        self.metrics.drains()
        await self.requests.drain(seconds)

    async def watch(self) -> None:
        """End the requests whose clients read nothing. Runs until cancelled."""
        await asyncio.gather(self.requests.watch(), self._ops_requests.watch())

    async def keep_states(self) -> None:
        """Keep what the metrics say of the upstreams up to date, for whichever process is asked, and report it when file
        descriptors are nearly used up. Runs until cancelled.
        """
        while True:
            self._tell_states()
            self._shortages.check_files(open_files())
            await asyncio.sleep(_STATE_SECONDS)

    def _tell_states(self) -> None:
        self._gateways.tell_states()
        self.metrics.tasks(len(asyncio.all_tasks()))

    def _made(self, settings: Settings, operations: Blueprint, access: Access) -> Quart:
        described = openapi.routes(has_metrics=settings.metrics_port is None)
        app = quart_app.application(self.log, operations, models.routes(self._gateways), described)
        quart_app.protect(app, access, ops.PATHS)
        return app

    def _sinks(self) -> list[Sink]:
        charges = Charges(self._limits, lambda: self.keys)
        return [self.metrics, RequestLog(self.log, ops.PATHS), charges, self.prober, *self._traces]

    def _health(self, settings: Settings) -> ops.Health:
        return ops.Health(
            draining=lambda: self.requests.draining,
            upstreams=self._gateways.upstreams,
            probed=self.prober.outcomes,
            refused=lambda: self.refused,
            required=settings.ready_requires,
        )
