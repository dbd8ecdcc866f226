"""The application: made from settings, with every limit of Quart's that would hurt a streaming proxy set."""

from typing import cast

from quart import Quart

from anthropic_proxy.config import Settings
from anthropic_proxy.gateway import Generations
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.observe.metrics import Metrics
from anthropic_proxy.routing import Routing
from anthropic_proxy.server import failures, messages, models, ops
from anthropic_proxy.server.observed import Observed
from anthropic_proxy.server.open_requests import AsgiApplication, OpenRequests

# The Messages API's own limit.
MAX_BODY_BYTES = 32 * 1024 * 1024


class Application:
    """Everything that is served. `asgi` is the ASGI application, `requests` its open requests; `start` before the first
    one, `aclose` after the last.
    """

    def __init__(self, settings: Settings, known: Routing) -> None:
        # The upstreams.
        self.known = known
        self.log = Log(verbose=settings.verbose, secrets=known.keys)
        # Why the configuration that was found last is not the one in force.
        self.refused: str | None = None
        self.metrics = Metrics([*(settings.model_aliases or {}), *(settings.model_map or {})])
        self._gateways = Generations(settings, known, self.log, self.metrics)
        self._quart = self._made(settings)
        self.requests = OpenRequests(
            cast("AsgiApplication", self._quart),
            most=settings.max_concurrent_requests,
            write_seconds=settings.write_timeout,
            uncounted=ops.PATHS,
        )
        self.asgi = Observed(self.requests, [self.metrics])

    def reload(self, settings: Settings, known: Routing) -> None:
        """Serve the requests to come by other settings."""
        self.known = known
        self._gateways.replace(settings, known)

    async def start(self) -> None:
        await self._quart.startup()

    async def aclose(self) -> None:
        await self._quart.shutdown()
        await self._gateways.aclose()

    def _made(self, settings: Settings) -> Quart:
        app = Quart(__name__, static_folder=None)
        app.config.update(
            MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
            # Quart's 60 s would cut every longer stream. Its timeout for bodies is asyncio.wait_for, which on Python 3.11
            # loses a cancellation that comes together with the end of the body: a client that left would be answered on.
            # See server/messages for ours.
            RESPONSE_TIMEOUT=None,
            BODY_TIMEOUT=None,
        )
        app.register_blueprint(messages.routes(self._gateways, self.log, settings.body_timeout))
        app.register_blueprint(models.routes(self._gateways))
        app.register_blueprint(ops.routes(self._health(settings)))
        failures.register(app, self.log)
        return app

    def _health(self, settings: Settings) -> ops.Health:
        return ops.Health(
            draining=lambda: self.requests.draining,
            upstreams=self._gateways.upstreams,
            refused=lambda: self.refused,
            required=settings.ready_requires,
        )
