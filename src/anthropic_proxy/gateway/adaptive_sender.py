"""Requests on their way to the upstream: sent, changed where the upstream refuses them, and sent again.

What the changes teach is kept for each upstream model, in the process and bounded: the next request is right at once.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.model_memory import Attempt, Learned
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.translate import rate_limit_headers, upstream_errors
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.upstream.client import Call, EndpointClient
from anthropic_proxy.upstream.http_client import Reply, UpstreamError
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_MOST_MODELS = 256

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Outgoing:
    """A request of Chat Completions that is to be sent by an API; `prompt`: the estimate of its tokens."""

    client: EndpointClient
    api: Api
    body: JsonObject
    request_id: str
    prompt: int

    def attempt(self, known: Learned) -> Attempt:
        """The request as far as it is known how its model takes it."""
        return Attempt(known, self.api, self.body, self.prompt, time.monotonic())


class Sender:
    """Sends requests to one endpoint, and learns from refusals. `learned` tells what it knows of a model."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self.log = self._log = log
        self.metrics = metrics
        self._models: OrderedDict[str, Learned] = OrderedDict()

    def learned(self, model: str) -> Learned:
        """What is known of an upstream model; the models of which nothing was asked for the longest time are forgotten."""
        known = self._models.setdefault(model, Learned())
        self._models.move_to_end(model)
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return known

    async def send(
        self, outgoing: Outgoing, read: Callable[[Call, JsonObject], Awaitable[_Answer]]
    ) -> _Answer:
        """What `read` makes of a good reply, and of the request of Chat Completions that was sent for it. Raises ApiError.

        Some upstreams refuse within a reply that began well, so refusals that `read` raises are mended as well.
        """
        attempt = outgoing.attempt(self.learned(outgoing.body["model"]))
        while True:
            try:
                answer = await self._once(outgoing, attempt.body, read)
            except upstream_errors.FailureError as error:
                change = attempt.refused(error.failure, time.monotonic())
                if change is None:
                    raise
                reason, request_id = error.failure.shown, outgoing.request_id
                self.metrics.changed(outgoing.client.endpoint.name, change.change)
                self._log.info(
                    "request changed",
                    request_id=request_id,
                    change=change.change,
                    field=change.field,
                    reason=reason,
                )
            else:
                attempt.accepted(time.monotonic())
                return answer

    async def _once(
        self,
        outgoing: Outgoing,
        body: JsonObject,
        read: Callable[[Call, JsonObject], Awaitable[_Answer]],
    ) -> _Answer:
        client, api, request_id = outgoing.client, outgoing.api, outgoing.request_id
        payload = dumps({**api.to_body(body), **client.endpoint.extra_body})
        self._log.body("upstream request", request_id, payload)
        reply = await client.post(client.endpoint.url(api.path), payload)
        if reply.status >= 300:
            raise told(await self._failure(client, reply, request_id, api.path))
        try:
            return await read(reply, body)
        except BaseException as error:
            await reply.aclose()
            raise_for_page(client, reply, error)
            raise

    async def good(self, client: EndpointClient, reply: Call | Reply, request_id: str) -> bytes:
        """The body of a good answer. Raises ApiError for any other."""
        if reply.status < 300:
            return await self.read(reply, request_id)
        raise told(await self._failure(client, reply, request_id))

    async def read(self, reply: Call | Reply, request_id: str) -> bytes:
        """The whole body of a reply, which is closed. Raises ApiError."""
        try:
            raw = await reply.read()
        finally:
            await reply.aclose()
        self._log.body("upstream answer", request_id, raw)
        return raw

    async def _failure(
        self, client: EndpointClient, reply: Call | Reply, request_id: str, path: str = ""
    ) -> upstream_errors.Failure:
        return upstream_errors.read(
            reply.status, reply.headers, await self.read(reply, request_id), client.source, path
        )


def raise_for_page(client: EndpointClient, reply: Call | Reply, error: BaseException) -> None:
    """Raise ApiError that says so where a reply of a good status could not be read because it is a web page.

    The media type alone decides nothing: some servers give a wrong one to a right answer.
    """
    is_about_content = isinstance(error, ApiError) and not isinstance(
        error, upstream_errors.FailureError | UpstreamError
    )
    if is_about_content and upstream_errors.is_page(reply.headers):
        raise upstream_errors.no_api(client.source) from error


def told(failed: upstream_errors.Failure) -> upstream_errors.FailureError:
    """What the client is told of a failure, with the upstream's rate limits."""
    error = upstream_errors.told(failed)
    error.headers = rate_limits(failed.headers) | error.headers
    return error


def rate_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The API's rate limit headers for those of an upstream's answer."""
    return rate_limit_headers.to_headers(headers, time.time())
