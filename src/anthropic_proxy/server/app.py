"""The Quart application: made from settings, with every limit of Quart's that would hurt a streaming proxy set."""

from quart import Quart

from anthropic_proxy.config import Settings
from anthropic_proxy.gateway import Gateway
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.routing import Routing
from anthropic_proxy.server import failures, messages, models, ops
from anthropic_proxy.upstream import Upstream

# The Messages API's own limit.
MAX_BODY_BYTES = 32 * 1024 * 1024


def create_app(settings: Settings, known: Routing) -> Quart:
    """The application for `settings`, in front of the `known` upstreams."""
    log = Log(verbose=settings.verbose, secrets=known.keys)
    gateway = Gateway(settings, known, log, Upstream())
    app = Quart(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        # Quart's 60 s would cut every longer stream. Its timeout for bodies is asyncio.wait_for, which on Python 3.11
        # loses a cancellation that comes together with the end of the body: a client that left would be answered on.
        # See server/messages for ours.
        RESPONSE_TIMEOUT=None,
        BODY_TIMEOUT=None,
    )
    app.register_blueprint(messages.routes(gateway, log))
    app.register_blueprint(models.routes(gateway))
    app.register_blueprint(ops.routes())
    failures.register(app, log)
    app.after_serving(gateway.aclose)
    return app
