"""Prepare a request for an upstream: translate its body, and create the spec of its response."""

from functools import partial

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_translation import RequestTranslator
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.notes import build_unavailable_header
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.request.chat_request import TranslatedRequest
from anthropic_proxy.translate.request.thinking import disables_thinking
from anthropic_proxy.translate.response.spec import (
    ResponseSpec,
    build_diagnostics,
    build_fallback_credit,
    get_reasoning_display,
    get_tool_schemas,
)
from anthropic_proxy.translate.tokens.estimate import estimate_request
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject


class RequestPreparer:
    """Prepares requests for the upstream of `client`."""

    def __init__(  # noqa: PLR0913 - all that a translation depends on
        self,
        client: UpstreamClient,
        translator: RequestTranslator,
        signer: Signer,
        sender: AdaptiveSender,
        counter: TokenCounter,
        *,
        calls_in_text: bool,
    ) -> None:
        """Create a preparer.

        calls_in_text: whether tool calls that the model writes as text become tool calls.
        """
        self._client = client
        self._translator = translator
        self._signer = signer
        self._sender = sender
        self._log = sender.log
        self._counter = counter
        self._calls_in_text = calls_in_text

    async def prepare(
        self, context: RequestContext, request: JsonObject, route: Route, api: Api
    ) -> PreparedRequest:
        """Translate a request, and begin its route. Raises ApiError.

        request: the client's request, with its context edits applied.
        """
        # Before the translation, so that its error is not attributed to an earlier route.
        context.begin_route(route)
        translation = await self._translator.translate(request, route, context.caller.api_key)
        body = translation.body
        self._log.log_ignored(translation.notes.ignored)
        self._log.debug(
            "request routed",
            request_id=context.request_id,
            model=request["model"],
            upstream=route.upstream.name,
            upstream_model=body["model"],
            messages=len(body["messages"]),
            tools=len(body.get("tools", ())),
            stream=context.is_stream,
        )
        context.response_headers.update(build_unavailable_header(translation.notes.unavailable))
        estimate = estimate_request(body)
        context.input_estimate = self._counter.predict(route.model, estimate)
        client = self._client.for_request(context.caller, context.observation, context.retry_plan)
        forbids_thinking = disables_thinking(body)
        spec = self._create_spec(
            context, request, translation, client, forbids_thinking=forbids_thinking
        )
        return PreparedRequest(
            client=client,
            api=api,
            body=body,
            model=body["model"],
            forbids_thinking=forbids_thinking,
            estimate=estimate,
            spec=spec,
        )

    def _create_spec(
        self,
        context: RequestContext,
        request: JsonObject,
        translation: TranslatedRequest,
        client: UpstreamClient,
        *,
        forbids_thinking: bool,
    ) -> ResponseSpec:
        body = translation.body
        memory = self._sender.get_memory(body["model"])
        return ResponseSpec(
            message_id=context.message_id,
            model=request["model"],
            input_estimate=context.input_estimate,
            upstream=client.identity,
            new_tool_id=partial(new_id, "toolu"),
            tool_names=translation.tool_names,
            single_call=translation.single_call,
            signer=self._signer.for_upstream(self._client.upstream.name),
            tools=get_tool_schemas(body),
            calls_in_text=self._calls_in_text and body.get("tool_choice") != "none",
            stop_sequences=request.get("stop_sequences") or [],
            reasoning=get_reasoning_display(request),
            context_window=memory.context_window,
            is_structured=translation.is_structured,
            starts_in_thinking=memory.opens_thinking.get(forbids_thinking, False),
            prefill=translation.prefill,
            message_fields=build_diagnostics(request),
            usage_fields=build_fallback_credit(request),
            wants_fast_mode=request.get("speed") == "fast",
        )
