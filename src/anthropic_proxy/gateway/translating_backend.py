"""Requests served by one upstream: translated for it, sent, answered, and its lessons kept.

request -> translate -> send -> translate back. Errors leave as ApiError, whichever part they come from.
"""

import time
from dataclasses import replace
from functools import partial

from anthropic_proxy.errors import NOT_THERE
from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.exchange import Exchange, ExchangeRunner
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.gateway.model_memory import ModelMemory
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.streams.translated import TranslatedStream
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate import compaction
from anthropic_proxy.translate.apis import APIS, Api
from anthropic_proxy.translate.compaction_blocks import without_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.notes import unavailable_header
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.request.chat_request import Translated
from anthropic_proxy.translate.request.parameters import output_format
from anthropic_proxy.translate.request.thinking import forbids_thinking
from anthropic_proxy.translate.request.tools import takes_one_call, tool_names
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import (
    AnswerSpec,
    Reasoning,
    credit,
    diagnostics,
    offered_tools,
    reasoning_display,
)
from anthropic_proxy.translate.responses_api.refusals import wants_responses
from anthropic_proxy.translate.tokens.estimate import estimate_request
from anthropic_proxy.translate.upstream_errors import Failure, FailureError, Source
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import RawResponse
from anthropic_proxy.wire.json_codec import JsonObject

# The Responses API, and back.
_MAX_APIS = 2

# A Message, or the events of one: as they come, or all at once.
TranslatedContent = JsonObject | TranslatedStream | list[JsonObject]


class TranslatingBackend:
    """Serves requests by one endpoint, which `client` sends to. `calls_in_text`: whether calls written as text are made
    calls.
    """

    def __init__(
        self,
        client: UpstreamClient,
        preparation: RequestPreparer,
        signer: Signer,
        sender: AdaptiveSender,
        *,
        calls_in_text: bool,
    ) -> None:
        self.client = client
        self.sender = sender
        self._preparation = preparation
        self._signer = signer
        self._log = sender.log
        self._calls_in_text = calls_in_text
        self._counter = TokenCounter(preparation.prepare_for_counting)
        self._runner = ExchangeRunner(sender, self._counter, preparation.threads)

    async def create_message(self, context: RequestContext, route: Route) -> TranslatedContent:
        """The answer of the chosen model, asked by the API that it takes. Raises ApiError."""
        memory = self.sender.get_memory(route.model)
        for _ in range(_MAX_APIS):
            try:
                return await self._create_message_by(context, route, self._select_api(memory))
            except FailureError as error:
                api = _other_api(error.failure, memory.api)
                if api is None or self.client.upstream.api != "chat_completions":
                    raise
                self._log.info(
                    "api changed",
                    request_id=context.request_id,
                    model=route.model,
                    api=api,
                    reason=error.message,
                )
                self.sender.metrics.changed(self.client.upstream.name, f"api_{api}")
                memory.set_api(api, time.monotonic())
        return await self._create_message_by(context, route, self._select_api(memory))

    def _select_api(self, memory: ModelMemory) -> Api:
        return APIS[memory.api or self.client.upstream.api]

    async def _create_message_by(
        self, context: RequestContext, route: Route, api: Api
    ) -> TranslatedContent:
        profile = api.to_dialect(route.endpoint.dialect)
        if profile is not route.endpoint.dialect:
            route = replace(route, endpoint=replace(route.endpoint, dialect=profile))
        count = partial(self._counter.estimate, route)
        request, applied_edits = apply_edits(without_compaction_blocks(context.request), count)
        plan = compaction.wanted(request, count)
        exchange = await self._prepare_exchange(context, request, route, api)
        if request.get("context_management") is not None:
            report = {"applied_edits": applied_edits}
            exchange = replace(exchange, spec=replace(exchange.spec, context_management=report))
        if plan is None or request["max_tokens"] == 0:
            return await self._runner.run(request, exchange)
        return await self._create_compacted_message(context, request, route, exchange, plan)

    async def count_tokens(self, context: RequestContext, route: Route) -> JsonObject:
        """The answer to `POST /v1/messages/count_tokens`; the model is not run. Never fails."""
        return await self._counter.count(
            self.client.for_caller(
                context.caller, context.state.observation, context.state.retry_allowance
            ),
            context.request,
            route,
        )

    async def read_ok(
        self, client: UpstreamClient, response: RawResponse, request_id: str
    ) -> bytes:
        """The body of a good reply to a question. Raises ApiError for any other."""
        return await self.sender.read_ok(client, response, request_id)

    def describe_memory(self, model: str) -> JsonObject:
        """What is known of a model, to be told."""
        return self.sender.get_memory(model).describe()

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:
        """Input tokens of a checked request, without translating it or asking the upstream."""
        return self._counter.estimate(route, request)

    async def _prepare_exchange(
        self, context: RequestContext, request: JsonObject, route: Route, api: Api
    ) -> Exchange:
        translation = await self._preparation.prepare(request, route, context.caller.key)
        self._log.ignored(translation.notes.ignored)
        estimate = estimate_request(translation.body)
        client = self.client.for_caller(
            context.caller, context.state.observation, context.state.retry_allowance
        )
        state = context.state
        state.input_estimate = self._counter.predict(route.model, estimate)
        spec = self._create_spec(request, translation, context, client.identity)
        self._log.debug(
            "begun", request_id=context.request_id, **_log_fields(request, translation.body, route)
        )
        state.begin_route(route)
        state.headers.update(unavailable_header(translation.notes.unavailable))
        return Exchange(context.request_id, client, api, translation.body, spec, state, estimate)

    async def _create_compacted_message(
        self,
        context: RequestContext,
        request: JsonObject,
        route: Route,
        exchange: Exchange,
        plan: compaction.Wanted,
    ) -> TranslatedContent:
        """The summary that the request wants, and the answer that goes on from it."""
        summary_exchange = await self._prepare_exchange(
            context, compaction.summary_request(request, plan), route, exchange.api
        )
        hidden_exchange = replace(
            summary_exchange, spec=replace(summary_exchange.spec, reasoning=Reasoning.HIDDEN)
        )
        summary = compaction.made(await self._runner.fetch_message(hidden_exchange), request, plan)
        if plan.ends_with(summary):
            events = compaction.alone(exchange.spec, summary, plan)
            return events if request.get("stream") else collect.to_message(events)
        continuation = await self._prepare_exchange(
            context, compaction.continued(request, summary), route, exchange.api
        )
        spec = replace(
            exchange.spec, compaction=summary, input_estimate=continuation.spec.input_estimate
        )
        return await self._runner.run(request, replace(continuation, spec=spec))

    def _create_spec(
        self,
        request: JsonObject,
        translation: Translated,
        context: RequestContext,
        identity: Source,
    ) -> AnswerSpec:
        body = translation.body
        memory = self.sender.get_memory(body["model"])
        return AnswerSpec(
            id=context.message_id,
            model=request["model"],
            input_estimate=context.state.input_estimate,
            source=identity,
            new_tool_id=partial(new_id, "toolu"),
            tool_names=tool_names(request),
            single_call=takes_one_call(request),
            signer=self._signer,
            tools=offered_tools(body),
            calls_in_text=self._calls_in_text and body.get("tool_choice") != "none",
            stop_sequences=request.get("stop_sequences") or [],
            reasoning=reasoning_display(request),
            context_window=memory.context_window,
            structured=output_format(request) is not None,
            opens_thinking=memory.opens_thinking.get(forbids_thinking(body), False),
            prefill=translation.prefill,
            fields=diagnostics(request),
            usage_fields=credit(request),
            asks_for_speed=request.get("speed") == "fast",
        )


def _other_api(refusal: Failure, current_api: str | None) -> str | None:
    """The API that a model should be asked by instead; None when the refusal is not about that. An upstream may name the
    Responses API without having it.
    """
    if current_api is None:
        return "responses" if wants_responses(refusal) else None
    return (
        "chat_completions" if current_api == "responses" and refusal.status in NOT_THERE else None
    )


def _log_fields(request: JsonObject, body: JsonObject, route: Route) -> JsonObject:
    return {
        "model": request["model"],
        "upstream": route.endpoint.name,
        "upstream_model": body["model"],
        "messages": len(body["messages"]),
        "tools": len(body.get("tools", ())),
        "stream": bool(request.get("stream")),
    }
