"""Selection of upstream keys, without a network."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import UpstreamClient, create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient

UPSTREAM = Upstream("up", "http://127.0.0.1:1/v1", GENERIC, keys=("first", "second"))


class _Response:
    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: dict[str, str] = {"retry-after": "60"}
        self.observers: list[Any] = []
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True
        for observer in self.observers:
            observer.closed()


class _HTTPClient:
    """An HTTP client that returns the statuses of each key in order."""

    def __init__(self, statuses: Mapping[str, list[int]]) -> None:
        self._statuses = statuses
        self.responses: list[_Response] = []

    async def post(
        self, _url: str, _payload: bytes, headers: Mapping[str, str], *_: Any, **__: Any
    ) -> _Response:
        key = headers["authorization"].removeprefix("Bearer ")
        self.responses.append(_Response(self._statuses[key].pop(0)))
        return self.responses[-1]


def _create_client(http_client: _HTTPClient) -> UpstreamClient:
    return create_upstream_client(UPSTREAM, cast("UpstreamHTTPClient", http_client))


def test_another_key_is_used_if_one_is_rate_limited() -> None:
    http_client = _HTTPClient({"first": [429], "second": [200]})

    async def post() -> int:
        response = await _create_client(http_client).post("", b"")
        await response.aclose()
        return response.status

    assert asyncio.run(post()) == 200
    assert [response.is_closed for response in http_client.responses] == [True, True]


def test_the_rate_limit_is_returned_if_other_keys_have_failed() -> None:
    """The proxy's own error would have neither the reason nor `retry-after`."""
    failures = 5
    http_client = _HTTPClient({"first": [200] * failures + [429], "second": [503] * failures})

    async def post_all() -> list[int]:
        client = _create_client(http_client)
        statuses = []
        for _ in range(2 * failures + 1):
            response = await client.post("", b"")
            for observer in response.observers:
                observer.body_completed()
            await response.aclose()
            statuses.append(response.status)
        return statuses

    assert asyncio.run(post_all())[-1] == 429
