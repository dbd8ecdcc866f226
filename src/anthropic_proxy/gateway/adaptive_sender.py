"""Send requests to an upstream, and change and resend those that it refuses.

The process remembers the changes for each upstream model, so that the upstream accepts the next
request at once.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cachetools import LRUCache

from anthropic_proxy.gateway.model_memory import ModelMemory, RequestAdapter
from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.gateway.upstream_response import (
    parse_caller_error,
    raise_for_web_page,
    read_body,
)
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# For each upstream.
_MAX_MODELS = 256

_Result = TypeVar("_Result")


class AdaptiveSender:
    """Sends requests to one upstream, and adapts them to its refusals."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self.log = log
        self.metrics = metrics
        self._memories: LRUCache[str, ModelMemory] = LRUCache(_MAX_MODELS)

    def get_memory(self, model: str) -> ModelMemory:
        """Return the memory of an upstream model.

        The process keeps the memories of at most 256 models of this upstream (LRU).
        """
        return self._memories.setdefault(model, ModelMemory())

    async def send(
        self,
        prepared: PreparedRequest,
        stream_fields: JsonObject,
        request_id: str,
        read: Callable[[UpstreamResponse, JsonObject], Awaitable[_Result]],
    ) -> _Result:
        """Send a request, and return the result of `read` for the successful response.

        Some upstreams refuse a request within a response whose status is 200. So refusals that
        `read` raises also lead to a changed request. Raises ApiError.

        stream_fields: fields of the body that request a stream; empty for a complete response.
        read: called with the response and the body that was sent.
        """
        memory = self.get_memory(prepared.model)
        tokens = prepared.spec.input_estimate
        body = prepared.body | stream_fields
        request = RequestAdapter(memory, prepared.api, body, tokens, time.monotonic())
        client = prepared.client
        while True:
            try:
                result = await self._send_once(prepared, request.body, request_id, read)
            except upstream_errors.UpstreamFailureError as error:
                change = request.adapt_to(error.failure, time.monotonic())
                if change is None:
                    raise
                if client.retry_plan is not None and not client.retry_plan.allows_request():
                    # The next request for this model is sent with the change.
                    request.record_changes(time.monotonic())
                    raise
                self.metrics.count_request_change(client.upstream.name, change.change)
                self.log.info(
                    "request changed",
                    request_id=request_id,
                    change=change.change,
                    field=change.field,
                    reason=error.failure.redacted_text,
                )
            else:
                request.record_changes(time.monotonic())
                return result

    async def _send_once(
        self,
        prepared: PreparedRequest,
        body: JsonObject,
        request_id: str,
        read: Callable[[UpstreamResponse, JsonObject], Awaitable[_Result]],
    ) -> _Result:
        client, api = prepared.client, prepared.api
        payload = _build_payload(prepared, body)
        self.log.log_body("upstream request sent", request_id, payload)
        response = await client.post(
            client.upstream.build_url(api.path), payload, is_stream=bool(body.get("stream"))
        )
        if response.status >= 300:
            failure_body = await read_body(response, self.log, request_id)
            raise parse_caller_error(client, response, failure_body, api.path, payload)
        try:
            return await read(response, body)
        except upstream_errors.UpstreamFailureError as error:
            await response.aclose()
            # Errors with status 200 may also be about an image of the request.
            raise upstream_errors.add_payload(error, payload) from error
        except BaseException as error:
            await response.aclose()
            raise_for_web_page(client, response, error)
            raise


def _build_payload(prepared: PreparedRequest, body: JsonObject) -> bytes:
    """Return the bytes of the upstream's request for a Chat Completions request."""
    upstream = prepared.client.upstream
    if not upstream.profile.stream_options:
        body = {name: value for name, value in body.items() if name != "stream_options"}
    return dumps({**prepared.api.to_body(body), **upstream.extra_body})
