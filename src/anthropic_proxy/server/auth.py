"""Who may ask, and how much: the key of each request is looked at before anything of its body is read.

Probes and metrics need no key; every other path does, also those that don't exist. The key stays in the proxy: what goes on
to upstreams are headers that hold none (request_headers), and keys of clients exclude that clients' keys are passed on.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from anthropic_proxy.client_keys import ClientKeys
from anthropic_proxy.rate_limits import RateLimits
from anthropic_proxy.server.request import Request


class Access:
    """keys: those in force; None when none is needed."""

    def __init__(self, keys: Callable[[], ClientKeys | None], limits: RateLimits) -> None:
        self._keys = keys
        self._limits = limits

    def check(self, request: Request) -> None:
        """Give a request its key. Raises RefusedError (401) when it came without a good one."""
        known = self._keys()
        if known is not None:
            request.key = known.allowed(request.client.key, datetime.now(UTC))
            request.observation.client_key = request.key.name

    async def admit(self, request: Request) -> None:
        """Count a request for its key. Raises RefusedError (429)."""
        # Instead of those of an upstream, which are the proxy's own.
        request.limit_headers = await self._limits.admit(request.key, datetime.now(UTC))
