"""Who may ask, and how much: the key of each request is looked at before anything of its body is read.

Probes and metrics need no key; every other path does, also those that don't exist. The key stays in the proxy: what goes on
to upstreams are headers that hold none (request_headers), and keys of clients exclude that clients' keys are passed on.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime

from quart import Quart, Response, g, request

from anthropic_proxy.client_keys import ClientKeys
from anthropic_proxy.rate_limits import RateLimits
from anthropic_proxy.server.messages import client, client_key


def register(app: Quart, keys: Callable[[], ClientKeys | None], free: Collection[str]) -> None:
    """Refuse requests without a good key. keys: those in force; None when none is needed. free: rules that need none."""

    @app.before_request
    async def check() -> None:
        known = keys()
        # The rule that will answer decides, and not the path: several paths may lead to one rule.
        is_free = request.url_rule is not None and request.url_rule.rule in free
        if known is not None and not is_free:
            g.client_key = known.allowed(client().key, datetime.now(UTC))
            g.observation.client_key = g.client_key.name

    @app.after_request
    async def tell(response: Response) -> Response:
        # Instead of those of an upstream, which are the proxy's own.
        response.headers.update(g.get("limit_headers", {}))
        return response


def limiter(limits: RateLimits) -> Callable[[], Awaitable[None]]:
    """What counts the request that is being answered for its key. It raises RefusedError (429)."""

    async def admit() -> None:
        g.limit_headers = await limits.admit(client_key(), datetime.now(UTC))

    return admit
