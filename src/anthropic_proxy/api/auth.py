"""Who may ask, and how much: the key of each request is looked at before anything of its body is read.

Probes and metrics need no key; every other path does, also those that don't exist. The key stays in the proxy: what goes on
to upstreams are headers that hold none (upstream.headers), and keys of clients exclude that clients' keys are passed on.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from anthropic_proxy.api.request import Request
from anthropic_proxy.auth.api_keys import ApiKeyRegistry, RequestDeniedError
from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.auth.rate_limits import RateLimiter


class AccessControl:
    """keys: those in force; None when none is needed."""

    def __init__(self, keys: Callable[[], ApiKeyRegistry | None], limits: RateLimiter) -> None:
        self._keys = keys
        self._limits = limits

    def authenticate(self, request: Request) -> None:
        """Give a request its key. Raises RefusedError (401) when it came without a good one."""
        keys = self._keys()
        if keys is None:
            return
        try:
            request.key = keys.authenticate(request.caller.api_key, datetime.now(UTC))
        except RequestDeniedError:
            request.observation.hint = _hint(request.caller)
            raise
        request.observation.caller_key = request.key.name

    async def admit(self, request: Request) -> None:
        """Count a request for its key. Raises RefusedError (429)."""
        # Instead of those of an upstream, which are the proxy's own.
        request.limit_headers = await self._limits.admit(request.key, datetime.now(UTC))


_SET_KEY = "set ANTHROPIC_AUTH_TOKEN to a key of PROXY_API_KEYS or PROXY_API_KEYS_FILE"

# Beginnings that all keys of a kind share, so they say where a key is from and nothing of its secret.
_KEY_PREFIXES = re.compile(
    r"sk-ant-(?:api\d\d|oat\d\d|admin\d\d|proxy)-|sk-ant-|sk-proj-|sk-or-(?:v1-)?|sk-"
)


def _hint(caller: Caller) -> str:
    """Return what the operator can do about a client whose key is not one of the configured ones."""
    if not caller.api_key:
        return f"the client sent no key: {_SET_KEY}"
    header = "x-api-key" if caller.headers.get("x-api-key") else "authorization"
    match = _KEY_PREFIXES.match(caller.api_key)
    key_start = f"{match[0]}…" if match else "…"
    key_description = f"{header}: {key_start}, {len(caller.api_key)} characters"
    return f"the client sent an unknown key ({key_description}): {_SET_KEY}"
