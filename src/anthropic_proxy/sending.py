"""Requests on their way to the upstream: sent, changed where the upstream refuses them, and sent again.

What the changes teach is kept for each upstream model, in the process and bounded: the next request is right at once.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from anthropic_proxy.addresses import CHAT_COMPLETIONS
from anthropic_proxy.endpoint_client import Call, EndpointClient
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.translate import adjustments, failure, ratelimits
from anthropic_proxy.translate.changes import Adjustment
from anthropic_proxy.upstream import Reply
from anthropic_proxy.wire.codec import JsonObject, dumps

# Refused fields come to light one at a time; a request of the real clients has at most this many that could be refused.
_MOST_CHANGES = 6
_MOST_MODELS = 256
# Tokens; an estimate of the prompt may be this much too low.
_MARGIN = 256
_LEAST_ANSWER = 1024


@dataclass
class Learned:
    """What is known of one upstream model.

    window: tokens of prompt and answer together, 0 while that is not known. opens_thinking: whether its answers begin
    within a block of reasoning that its chat template has opened; apart for requests that forbid thinking (True), as
    templates open none for these.
    """

    changes: list[Adjustment] = field(default_factory=list)
    window: int = 0
    opens_thinking: dict[bool, bool] = field(default_factory=dict)

    def adjusted(self, body: JsonObject, prompt: int) -> JsonObject:
        """The request as the model takes it; `prompt` is the estimate of its tokens."""
        for change in self.changes:
            body = change.apply(body)
        room = self.window - round(prompt * 1.1) - _MARGIN
        return Adjustment("room", "max_tokens", room).apply(body) if room >= _LEAST_ANSWER else body

    def has_read(self, prompt: int) -> None:
        """An answered prompt, in tokens as the upstream counted: one that fills the window shows that it has grown."""
        if prompt >= self.window:
            self.window = 0


class Sender:
    """Sends requests to one endpoint, and learns from refusals. `learned` tells what it knows of a model."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._models: OrderedDict[str, Learned] = OrderedDict()

    def learned(self, model: str) -> Learned:
        """What is known of an upstream model."""
        known = self._models.setdefault(model, Learned())
        self._models.move_to_end(model)
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return known

    async def post(self, client: EndpointClient, body: JsonObject, request_id: str, prompt: int) -> Call:
        """The upstream's reply, once its status is known to be good; `prompt` in tokens. Raises ApiError."""
        known = self.learned(body["model"])
        body = known.adjusted(body, prompt)
        made: list[Adjustment] = []
        while True:
            payload = dumps({**body, **client.endpoint.extra_body})
            self._log.body("upstream request", request_id, payload)
            reply = await client.post(client.endpoint.url(CHAT_COMPLETIONS), payload)
            if reply.status < 300:
                known.changes += [change for change in made if change.lasts and change not in known.changes]
                return reply
            failed = await self._failure(client, reply, request_id)
            known.window = failure.context_sizes(failed).limit or known.window
            change = adjustments.adjustment_for(failed, body) if len(made) < _MOST_CHANGES else None
            if change is None:
                raise told(failed)
            self._log.info(
                "request changed", request_id=request_id, change=change.change, field=change.field, reason=failed.text
            )
            made.append(change)
            body = change.apply(body)

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

    async def _failure(self, client: EndpointClient, reply: Call | Reply, request_id: str) -> failure.Failure:
        return failure.read(reply.status, reply.headers, await self.read(reply, request_id), client.source)


def told(failed: failure.Failure) -> ApiError:
    """What the client is told of a failure, with the upstream's rate limits."""
    error = failure.told(failed)
    error.headers = rate_limits(failed.headers) | error.headers
    return error


def rate_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The API's rate limit headers for those of an upstream's answer."""
    return ratelimits.to_headers(headers, time.time())
