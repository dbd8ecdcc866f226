"""Prepare the exchange of a request with an upstream: its translated body, and what its response needs."""

from functools import partial

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.exchange import Exchange
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.notes import build_unavailable_header
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.request.chat_request import TranslatedRequest
from anthropic_proxy.translate.request.parameters import get_output_format
from anthropic_proxy.translate.request.thinking import disables_thinking
from anthropic_proxy.translate.request.tools import disables_parallel_calls, map_tool_names
from anthropic_proxy.translate.response.spec import (
    ResponseSpec,
    build_diagnostics,
    build_fallback_credit,
    get_reasoning_display,
    get_tool_schemas,
)
from anthropic_proxy.translate.tokens.estimate import estimate_request
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject


class ExchangePreparer:
    """Prepares the exchanges with one upstream."""

    def __init__(  # noqa: PLR0913 - all that a translation depends on
        self,
        client: UpstreamClient,
        preparation: RequestPreparer,
        signer: Signer,
        sender: AdaptiveSender,
        counter: TokenCounter,
        *,
        calls_in_text: bool,
    ) -> None:
        """calls_in_text: whether tool calls that the model writes as text become tool calls."""
        self._client = client
        self._preparation = preparation
        self._signer = signer
        self._sender = sender
        self._log = sender.log
        self._counter = counter
        self._calls_in_text = calls_in_text

    async def prepare(
        self, context: RequestContext, request: JsonObject, route: Route, api: Api
    ) -> Exchange:
        """Translate a request for an upstream, and begin its route. Raises ApiError."""
        translation = await self._preparation.prepare(request, route, context.caller.api_key)
        self._log.log_ignored(translation.notes.ignored)
        estimate = estimate_request(translation.body)
        client = self._client.for_caller(
            context.caller, context.state.observation, context.state.retry_allowance
        )
        state = context.state
        state.input_estimate = self._counter.predict(route.model, estimate)
        spec = self._create_spec(request, translation, context, client.identity)
        self._log.debug(
            "request routed",
            request_id=context.request_id,
            **_log_fields(request, translation.body, route),
        )
        state.begin_route(route)
        state.headers.update(build_unavailable_header(translation.notes.unavailable))
        return Exchange(context.request_id, client, api, translation.body, spec, state, estimate)

    def _create_spec(
        self,
        request: JsonObject,
        translation: TranslatedRequest,
        context: RequestContext,
        identity: UpstreamIdentity,
    ) -> ResponseSpec:
        body = translation.body
        memory = self._sender.get_memory(body["model"])
        return ResponseSpec(
            message_id=context.message_id,
            model=request["model"],
            input_estimate=context.state.input_estimate,
            upstream=identity,
            new_tool_id=partial(new_id, "toolu"),
            tool_names=map_tool_names(request),
            single_call=disables_parallel_calls(request),
            signer=self._signer,
            tools=get_tool_schemas(body),
            calls_in_text=self._calls_in_text and body.get("tool_choice") != "none",
            stop_sequences=request.get("stop_sequences") or [],
            reasoning=get_reasoning_display(request),
            context_window=memory.context_window,
            is_structured=get_output_format(request) is not None,
            starts_in_thinking=memory.opens_thinking.get(disables_thinking(body), False),
            prefill=translation.prefill,
            message_fields=build_diagnostics(request),
            usage_fields=build_fallback_credit(request),
            wants_fast_mode=request.get("speed") == "fast",
        )


def _log_fields(request: JsonObject, body: JsonObject, route: Route) -> JsonObject:
    return {
        "model": request["model"],
        "upstream": route.upstream.name,
        "upstream_model": body["model"],
        "messages": len(body["messages"]),
        "tools": len(body.get("tools", ())),
        "stream": bool(request.get("stream")),
    }
