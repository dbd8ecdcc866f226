"""Authentication and rate limits: check the key of each request before its body is read.

Probes and metrics need no key. All other paths need one, including paths that do not exist. The
proxy does not forward the key: `upstream.headers` omits it, and `config.upstreams` rejects
UPSTREAM_API_KEY_PASSTHROUGH in combination with API keys of clients.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from anthropic_proxy.api.request import Request
from anthropic_proxy.auth.api_keys import ApiKeyRegistry, RequestDeniedError
from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.auth.rate_limits import RateLimiter


class AccessControl:
    """Authenticate requests and count them against the limits of their keys."""

    def __init__(self, keys: Callable[[], ApiKeyRegistry | None], limits: RateLimiter) -> None:
        """Create the access control. keys: returns the current keys, None if requests need none."""
        self._keys = keys
        self._limits = limits

    def authenticate(self, request: Request) -> None:
        """Set `request.key`. Raises RequestDeniedError (401) if the request has no valid key."""
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
        # They replace the limit headers of the upstream, which apply to the proxy's own key.
        request.limit_headers = await self._limits.admit(request.key, datetime.now(UTC))


_SET_KEY = "set ANTHROPIC_AUTH_TOKEN to a key of PROXY_API_KEYS or PROXY_API_KEYS_FILE"

# Public prefixes of keys. A hint may show them: they identify the issuer and are not secret.
_KEY_PREFIXES = re.compile(
    r"sk-ant-(?:api\d\d|oat\d\d|admin\d\d|proxy)-|sk-ant-|sk-proj-|sk-or-(?:v1-)?|sk-"
)


def _hint(caller: Caller) -> str:
    """Return the hint for the operator about a request without a valid key."""
    if not caller.api_key:
        return f"the client sent no key: {_SET_KEY}"
    header = "x-api-key" if caller.headers.get("x-api-key") else "authorization"
    match = _KEY_PREFIXES.match(caller.api_key)
    key_start = f"{match[0]}…" if match else "…"
    key_description = f"{header}: {key_start}, {len(caller.api_key)} characters"
    return f"the client sent an unknown key ({key_description}): {_SET_KEY}"
