"""Selection of upstream keys, without a network."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.upstream import Timeouts, Upstream
from anthropic_proxy.upstream.client import UpstreamClient, create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.upstream.retry_plan import RetryPlan

UPSTREAM = Upstream("up", "http://127.0.0.1:1/v1", GENERIC, keys=("first", "second"))


class _Response:
    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: dict[str, str] = {"retry-after": "60"}
        self.observers: list[Any] = []
        self.is_closed = False

    async def peek(self, *_: Any) -> bytes:
        return b""

    async def aclose(self) -> None:
        self.is_closed = True
        for observer in self.observers:
            observer.closed()


class _HTTPClient:
    """An HTTP client that returns the statuses of each key in order."""

    def __init__(self, statuses: Mapping[str, list[int]]) -> None:
        self._statuses = statuses
        self.timeouts: list[Timeouts] = []
        self.responses: list[_Response] = []

    async def post(
        self,
        _url: str,
        _payload: bytes,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        *_: Any,
        **__: Any,
    ) -> _Response:
        self.timeouts.append(timeouts)
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


@pytest.mark.parametrize(
    ("configured", "is_stream", "has_other_target", "expected"),
    [
        (None, True, True, 60),
        (None, True, False, None),
        (None, False, True, None),
        (7, True, True, 7),
        (7, True, False, 7),
        (7, False, True, None),
        (90, True, True, 90),
    ],
)
def test_the_time_limit_of_the_first_token(
    configured: float | None, expected: float | None, *, is_stream: bool, has_other_target: bool
) -> None:
    """A response that is not streamed begins when it is complete."""
    http_client = _HTTPClient({"first": [200]})
    plan = RetryPlan()
    plan.has_other_target = has_other_target
    upstream = replace(UPSTREAM, timeouts=Timeouts(first_token=configured, idle=5))
    client = create_upstream_client(upstream, cast("UpstreamHTTPClient", http_client))

    async def post() -> None:
        await replace(client, retry_plan=plan).post("", b"", is_stream=is_stream)

    asyncio.run(post())
    assert http_client.timeouts == [Timeouts(first_token=expected, idle=5)]


def test_queries_have_no_time_limit_of_the_first_token() -> None:
    http_client = _HTTPClient({"first": [200]})
    upstream = replace(UPSTREAM, timeouts=Timeouts(first_token=7))
    client = create_upstream_client(upstream, cast("UpstreamHTTPClient", http_client))
    asyncio.run(client.query("", b""))
    assert http_client.timeouts == [Timeouts()]
