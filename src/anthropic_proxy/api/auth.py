"""Authentication and rate limits: check the key of each request before its body is read.

Probes and metrics need no key; every other path does, also one that does not exist. The key is not
sent to upstreams: their headers do not contain it (upstream.headers), and
UPSTREAM_API_KEY_PASSTHROUGH is rejected together with keys of clients (config.upstreams).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from anthropic_proxy.api.request import Request
from anthropic_proxy.auth.api_keys import ApiKeyRegistry, RequestDeniedError
from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.auth.rate_limits import RateLimiter


class AccessControl:
    """Authenticates requests and counts them against the limits of their keys."""

    def __init__(self, keys: Callable[[], ApiKeyRegistry | None], limits: RateLimiter) -> None:
        """keys: returns the current keys, or None when requests need no key."""
        self._keys = keys
        self._limits = limits

    def authenticate(self, request: Request) -> None:
        """Set the key of a request. Raises RequestDeniedError (401) when it has no valid key."""
        keys = self._keys()
        if keys is None:
            return
        try:
            request.key = keys.authenticate(request.caller.api_key, datetime.now(UTC))
        except RequestDeniedError:
            request.observation.hint = _hint(request.caller)
            raise
        request.observation.api_key_name = request.key.name

    async def admit(self, request: Request) -> None:
        """Count a request against the limits of its key. Raises RequestDeniedError (429)."""
        # These replace the upstream's limit headers, which describe the proxy's key.
        request.limit_headers = await self._limits.admit(request.key, datetime.now(UTC))


_SET_KEY = "set ANTHROPIC_AUTH_TOKEN to a key of PROXY_API_KEYS or PROXY_API_KEYS_FILE"

# Beginnings that all keys of a kind share: they reveal the origin of a key and nothing of its
# secret.
_KEY_PREFIXES = re.compile(
    r"sk-ant-(?:api\d\d|oat\d\d|admin\d\d|proxy)-|sk-ant-|sk-proj-|sk-or-(?:v1-)?|sk-"
)


def _hint(caller: Caller) -> str:
    """Return a hint for the operator about a client without a configured key."""
    if not caller.api_key:
        return f"the client sent no key: {_SET_KEY}"
    header = "x-api-key" if caller.headers.get("x-api-key") else "authorization"
    match = _KEY_PREFIXES.match(caller.api_key)
    key_start = f"{match[0]}…" if match else "…"
    key_description = f"{header}: {key_start}, {len(caller.api_key)} characters"
    return f"the client sent an unknown key ({key_description}): {_SET_KEY}"
