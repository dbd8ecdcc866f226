"""The passthrough backend: forward requests and responses of upstreams with the Messages API.

Two kinds of responses are not forwarded, but converted to an error of the proxy: responses that are
not in the format of the API, such as the error page of a gateway, and refusals of the proxy's key.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.streams.passthrough import PassthroughStream
from anthropic_proxy.gateway.thinking_memory import ThinkingAdapter, ThinkingMemory
from anthropic_proxy.gateway.upstream_response import (
    create_read_logger,
    parse_caller_error,
    raise_for_web_page,
    read_body,
    read_successful_body,
    to_caller_error,
)
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate import passthrough, upstream_errors, upstream_failure
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.reasoning.thinking_history import ThinkingPolicy
from anthropic_proxy.translate.tokens.estimate import estimate_untranslated
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Seconds. Clients wait for a count before they send the request.
_COUNT_TIMEOUT_SECONDS = 10

_Result = TypeVar("_Result")


class PassthroughBackend:
    """Forwards requests to one upstream. `client` sends them. See `Backend`."""

    def __init__(self, client: UpstreamClient, log: Log, metrics: Metrics | None = None) -> None:
        self.client = client
        self._log = log
        self._metrics = metrics or Metrics()
        self._thinking = ThinkingMemory()

    async def create_message(self, context: RequestContext, route: Route) -> bytes:
        """Send a request, and return the upstream's Message. Raises ApiError."""
        return await self._send(context, route, self._create_message)

    async def open_stream(self, context: RequestContext, route: Route) -> PassthroughStream:
        """Send a request, and return the upstream's stream when its first content has arrived.

        Raises ApiError.
        """
        return await self._send(context, route, self._open_stream)

    async def _send(
        self,
        context: RequestContext,
        route: Route,
        send: Callable[[RequestContext, Route, ThinkingPolicy], Awaitable[_Result]],
    ) -> _Result:
        """Send a request, and change and resend it if the upstream refuses its thinking."""
        request = {**context.request, **route.upstream.extra_body}
        adapter = ThinkingAdapter(self._thinking, route.model, request, time.monotonic())
        while True:
            try:
                result = await send(context, route, adapter.policy)
            except ApiError as error:
                change = adapter.adapt_to(error)
                if change is None:
                    raise
                if not context.retry_plan.allows_request():
                    # The next request is sent with the change.
                    adapter.record_changes(time.monotonic())
                    raise
                self._metrics.count_request_change(route.upstream.name, change.name)
                self._log.info(
                    "request changed",
                    request_id=context.request_id,
                    change=change.name,
                    field="thinking",
                    reason=self._client_for(context).identity.redact_beginning(error.message),
                )
            else:
                adapter.record_changes(time.monotonic())
                return result

    async def _create_message(
        self, context: RequestContext, route: Route, policy: ThinkingPolicy
    ) -> bytes:
        client = self._client_for(context)
        response = await self._open_response(context, route, client, policy)
        stream = PassthroughStream(
            response,
            client.identity,
            context.request_id,
            on_read=create_read_logger(self._log, context.request_id),
            on_end=lambda _: None,
        )
        try:
            body = await stream.read_message()
        except ApiError as error:
            raise_for_web_page(client, response, error)
            raise
        _set_media_type(context, "application/json")
        context.observation.record_response(*passthrough.parse_message_usage(body))
        return body

    async def _open_stream(
        self, context: RequestContext, route: Route, policy: ThinkingPolicy
    ) -> PassthroughStream:
        client = self._client_for(context)
        response = await self._open_response(context, route, client, policy)
        stream = self._create_stream(context.observation, client, response)
        try:
            await stream.start()
        except ApiError as error:
            raise_for_web_page(client, response, error)
            raise
        usage, _ = passthrough.parse_stream_usage(stream.usage_events)
        if not passthrough.has_input_tokens(usage):
            stream.input_estimate = self._input_estimate(context, route)
        _set_media_type(context, "text/event-stream")
        context.observation.mark_first_token()
        return stream

    async def count_tokens(self, context: RequestContext, route: Route) -> bytes:
        """Return the upstream's count, or an estimate if it cannot count. Raises ApiError."""
        client, upstream = self._client_for(context), route.upstream
        policy = self._thinking.get_policy(route.model, time.monotonic())
        payload = passthrough.build_request_body(
            context.raw_body, context.request, route.model, {}, policy
        )
        context.begin_route(route)
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT_SECONDS):
                response = await client.query(
                    upstream.build_url("/messages/count_tokens", context.caller.query), payload
                )
                if response.status in MISSING_PATH_STATUSES:
                    await response.aclose()
                    return self._estimate_response(context, route)
                body = await self.read_successful_body(client, response, context.request_id)
        except (TimeoutError, UpstreamError):
            return self._estimate_response(context, route)
        self._forward_headers(context, client, response)
        return body

    def _client_for(self, context: RequestContext) -> UpstreamClient:
        return self.client.for_request(context.caller, context.observation, context.retry_plan)

    async def _open_response(
        self,
        context: RequestContext,
        route: Route,
        client: UpstreamClient,
        policy: ThinkingPolicy,
    ) -> UpstreamResponse:
        """Send the request, and return the successful response before its body is read.

        Raises ApiError for an unsuccessful response.
        """
        upstream = route.upstream
        payload = passthrough.build_request_body(
            context.raw_body, context.request, route.model, upstream.extra_body, policy
        )
        self._log.debug(
            "request routed",
            request_id=context.request_id,
            upstream=upstream.name,
            upstream_model=route.model,
        )
        self._log.log_body("upstream request sent", context.request_id, payload)
        context.begin_route(route)
        url = upstream.build_url("/messages", context.caller.query)
        response = await client.post(url, payload, is_stream=context.is_stream)
        if response.status >= 300:
            body = await read_body(response, self._log, context.request_id)
            raise _to_passthrough_error(client, response, body, "/messages", payload)
        context.response_status = response.status
        self._forward_headers(context, client, response)
        return response

    def _forward_headers(
        self, context: RequestContext, client: UpstreamClient, response: UpstreamResponse
    ) -> None:
        headers = _headers_without_secrets(client, response)
        context.response_headers.update(passthrough.filter_response_headers(headers))

    async def read_successful_body(
        self, client: UpstreamClient, response: UpstreamResponse, request_id: str
    ) -> bytes:
        """Return the body of a successful response. Raises ApiError for an unsuccessful one."""
        to_error = partial(_to_passthrough_error, client, response)
        body = await read_successful_body(response, self._log, request_id, to_error)
        _raise_for_secrets(client, response, body)
        return body

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:  # noqa: ARG002 - Backend
        """Return an estimate of a checked request's input tokens. Sends nothing to the upstream."""
        return max(estimate_untranslated(expand_compaction_blocks(request)).total, 1)

    def get_context_window(self, model: str) -> int:  # noqa: ARG002 - Backend
        """Return 0, because the backend does not record context windows."""
        return 0

    def describe_memory(self, model: str) -> JsonObject:
        """Return the changes of thinking that the model requires as JSON."""
        return self._thinking.describe(model)

    def _estimate_response(self, context: RequestContext, route: Route) -> bytes:
        if context.refusal is not None:
            raise context.refusal
        return dumps({"input_tokens": self.estimate_tokens(context.request, route)})

    def _create_stream(
        self, observation: Observation, client: UpstreamClient, response: UpstreamResponse
    ) -> PassthroughStream:
        # The stream must not refer to the request, which may be several megabytes, because a
        # stream may be open for minutes.
        on_read = create_read_logger(self._log, observation.request_id)
        on_end = partial(self._record_stream_end, observation)
        return PassthroughStream(
            response, client.identity, observation.request_id, on_read=on_read, on_end=on_end
        )

    def _record_stream_end(self, observation: Observation, stream: PassthroughStream) -> None:
        for error in (stream.error, stream.unexpected_error):
            if error is not None:
                self._log.log_stream_failure(observation.request_id, error)
                observation.record_stream_failure(error)
        usage, stop_reason = passthrough.parse_stream_usage(stream.usage_events)
        if stream.started and stop_reason is None:
            usage = passthrough.estimate_usage(usage, stream.input_estimate, stream.output_estimate)
        observation.record_response(usage, stop_reason, stream.tool_calls)

    def _input_estimate(self, context: RequestContext, route: Route) -> int:
        # The tokens of a request that cannot be translated cannot be estimated.
        if context.refusal is not None:
            return 0
        return self.estimate_tokens(context.request, route)


def _set_media_type(context: RequestContext, media_type: str) -> None:
    """Replace the upstream's content type if it is not that of the body, which clients rely on."""
    content_type = context.response_headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != media_type:
        context.response_headers["content-type"] = media_type


def _to_passthrough_error(
    client: UpstreamClient,
    response: UpstreamResponse,
    body: bytes,
    path: str = "",
    payload: bytes | None = None,
) -> ApiError:
    """Return the error for an unsuccessful response: the upstream's own error if it is usable.

    The upstream's own error is not forwarded if it refuses the proxy's key or contains a secret.
    """
    status = response.status
    is_about_proxy_key = status in (401, 403) and not client.upstream.key_passthrough
    if not is_about_proxy_key and not _contains_secret(client, body):
        headers = _headers_without_secrets(client, response)
        native_error = passthrough.parse_native_error(status, headers, body)
        failure = upstream_failure.parse_failure(
            status, headers, body, client.identity, payload=payload
        )
        if native_error is not None and not passthrough.needs_mapping(failure):
            native_error.adopt(upstream_errors.to_api_error(failure))
            return native_error
    return parse_caller_error(client, response, body, path, payload)


def _headers_without_secrets(
    client: UpstreamClient, response: UpstreamResponse
) -> Mapping[str, str]:
    """Return the headers without those that contain a secret.

    Masking a part of a value is not sufficient: it would change numbers and ids.
    """
    redact = client.identity.redact
    return {name: value for name, value in response.headers.items() if redact(value) == value}


def _raise_for_secrets(client: UpstreamClient, response: UpstreamResponse, body: bytes) -> None:
    """Raise ApiError if the body of a successful response is an error that contains a secret."""
    if passthrough.is_error_body(body) and _contains_secret(client, body):
        failure = upstream_failure.parse_failure(500, response.headers, body, client.identity)
        raise to_caller_error(failure)


def _contains_secret(client: UpstreamClient, body: bytes) -> bool:
    text = body.decode("utf-8", "surrogateescape")
    return client.identity.redact(text) != text
