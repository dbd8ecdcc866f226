"""Requests to one upstream: at its addresses, with its keys and headers, within its limits."""

from collections.abc import Mapping

from anthropic_proxy.client import NOBODY, Client
from anthropic_proxy.endpoints import Endpoint
from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.failure import Source
from anthropic_proxy.upstream import Reply, Upstream

_NO_KEY = "This server passes the client's own key to the upstream, and the request has none: set ANTHROPIC_API_KEY"


class EndpointClient:
    """Sends to `endpoint`. `for_client` gives one that speaks for a client, whose key may have to be passed on."""

    def __init__(self, endpoint: Endpoint, upstream: Upstream, client: Client = NOBODY) -> None:
        self.endpoint = endpoint
        self._upstream = upstream
        self._client = client

    def for_client(self, client: Client) -> "EndpointClient":
        """The same, with the key of the one who asks."""
        return EndpointClient(self.endpoint, self._upstream, client) if self.endpoint.key_passthrough else self

    @property
    def source(self) -> Source:
        """Whose answers these are, and the keys that no text may repeat."""
        return Source(self.endpoint.address, tuple(filter(None, (*self.endpoint.keys, self._client.key))))

    async def post(self, url: str, payload: bytes) -> Reply:
        """Post JSON to an address of the endpoint. The caller closes the reply. Raises ApiError."""
        return await self._upstream.post(url, payload, self._headers())

    async def get(self, url: str) -> Reply:
        """As `post`, without a body."""
        return await self._upstream.get(url, self._headers())

    def _headers(self) -> Mapping[str, str]:
        key = self._key()
        return {**({"authorization": f"Bearer {key}"} if key else {}), **self.endpoint.headers}

    def _key(self) -> str:
        if not self.endpoint.key_passthrough:
            return self.endpoint.keys[0] if self.endpoint.keys else ""
        if not self._client.key:
            raise ApiError(401, _NO_KEY)
        return self._client.key
