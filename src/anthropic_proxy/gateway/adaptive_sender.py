"""Send requests, and change and resend those that an upstream refuses.

The changes are remembered for each upstream model, in the process and bounded: the next request is
accepted at once.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from cachetools import LRUCache

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.model_memory import ModelMemory, RequestAdapter
from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.translate import rate_limit_headers, upstream_errors
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_MAX_MODELS = 256

_Result = TypeVar("_Result")


class AdaptiveSender:
    """Sends requests to one upstream, and adapts them to its refusals."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self.log = log
        self.metrics = metrics
        self._memories: LRUCache[str, ModelMemory] = LRUCache(_MAX_MODELS)

    def get_memory(self, model: str) -> ModelMemory:
        """Return what the refusals of an upstream model have shown.

        The least recently used memories are dropped.
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

        Some upstreams refuse within a response that began well, so refusals that `read` raises
        are handled, too. Raises ApiError.

        stream_fields: fields of the body that request a stream, or none. read: receives the
        response and the body that was sent.
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
                if client.retry_plan is not None and not client.retry_plan.try_attempt():
                    # The next request begins with the change.
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
        payload = dumps({**api.to_body(body), **client.upstream.extra_body})
        self.log.log_body("upstream request sent", request_id, payload)
        response = await client.post(client.upstream.build_url(api.path), payload)
        if response.status >= 300:
            raise to_caller_error(await self._read_failure(client, response, request_id, api.path))
        try:
            return await read(response, body)
        except BaseException as error:
            await response.aclose()
            raise_for_web_page(client, response, error)
            raise

    async def read_ok(
        self, client: UpstreamClient, response: UpstreamResponse, request_id: str
    ) -> bytes:
        """Return the body of a successful response. Raises ApiError for any other."""
        if response.status < 300:
            return await self.read_body(response, request_id)
        raise to_caller_error(await self._read_failure(client, response, request_id))

    async def read_body(self, response: UpstreamResponse, request_id: str) -> bytes:
        """Return the body of a response, and close it. Raises ApiError."""
        try:
            body = await response.read()
        finally:
            await response.aclose()
        self.log.log_body("upstream response received", request_id, body)
        return body

    async def _read_failure(
        self,
        client: UpstreamClient,
        response: UpstreamResponse,
        request_id: str,
        path: str = "",
    ) -> upstream_errors.UpstreamFailure:
        return upstream_errors.parse_failure(
            response.status,
            response.headers,
            await self.read_body(response, request_id),
            client.identity,
            path,
        )


def raise_for_web_page(
    client: UpstreamClient, response: UpstreamResponse, error: BaseException
) -> None:
    """Raise ApiError where a successful response could not be read because it is a web page.

    The media type alone decides nothing: some servers send a wrong one with a right response.
    """
    is_about_content = isinstance(error, ApiError) and not isinstance(
        error, upstream_errors.UpstreamFailureError | UpstreamError
    )
    if is_about_content and upstream_errors.is_html_page(response.headers):
        raise upstream_errors.html_page_error(client.identity) from error


def to_caller_error(
    failure: upstream_errors.UpstreamFailure,
) -> upstream_errors.UpstreamFailureError:
    """Return the error for a failure, with the upstream's rate limits."""
    error = upstream_errors.to_api_error(failure)
    error.headers = to_rate_limit_headers(failure.headers) | error.headers
    return error


def to_rate_limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the API's rate limit headers for those of an upstream's response."""
    return rate_limit_headers.convert_rate_limit_headers(headers, time.time())
