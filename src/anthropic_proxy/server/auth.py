"""Who may ask: the key of each request is looked at before anything of its body is read.

Probes and metrics need no key; every other path does, also those that don't exist. The key stays in the proxy: what goes on
to upstreams are headers that hold none (request_headers), and keys of clients exclude that clients' keys are passed on.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from quart import Quart, g, request

from anthropic_proxy.client_keys import ClientKeys
from anthropic_proxy.server.messages import client


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
