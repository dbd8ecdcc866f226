"""Requests served by one upstream: translated for it, sent, answered, and its lessons kept.

request -> translate -> send -> translate back. Errors leave as ApiError, whichever part they come from.
"""

import time
from dataclasses import replace
from functools import partial

from anthropic_proxy.errors import NOT_THERE
from anthropic_proxy.gateway.adaptive_sender import Sender
from anthropic_proxy.gateway.exchange import Answering, Exchange
from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.gateway.model_memory import Learned
from anthropic_proxy.gateway.request_context import Asked
from anthropic_proxy.gateway.request_preparation import Preparation
from anthropic_proxy.gateway.streams.translated import AnswerStream
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
from anthropic_proxy.upstream.client import EndpointClient
from anthropic_proxy.upstream.http_client import Reply
from anthropic_proxy.wire.json_codec import JsonObject

# The Responses API, and back.
_MOST_APIS = 2

# A Message, or the events of one: as they come, or all at once.
Content = JsonObject | AnswerStream | list[JsonObject]


class Serving:
    """Serves requests by one endpoint, which `client` sends to. `calls_in_text`: whether calls written as text are made
    calls.
    """

    def __init__(
        self,
        client: EndpointClient,
        preparation: Preparation,
        signer: Signer,
        sender: Sender,
        *,
        calls_in_text: bool,
    ) -> None:
        self.client = client
        self.sender = sender
        self._preparation = preparation
        self._signer = signer
        self._log = sender.log
        self._calls_in_text = calls_in_text
        self._counter = TokenCounter(preparation.to_count)
        self._answering = Answering(sender, self._counter, preparation.threads)

    async def answer(self, asked: Asked, chosen: Route) -> Content:
        """The answer of the chosen model, asked by the API that it takes. Raises ApiError."""
        known = self.sender.learned(chosen.model)
        for _ in range(_MOST_APIS):
            try:
                return await self._answer(asked, chosen, self._api(known))
            except FailureError as error:
                api = _other_api(error.failure, known.api)
                if api is None or self.client.endpoint.api != "chat_completions":
                    raise
                self._log.info(
                    "api changed",
                    request_id=asked.request_id,
                    model=chosen.model,
                    api=api,
                    reason=error.message,
                )
                self.sender.metrics.changed(self.client.endpoint.name, f"api_{api}")
                known.asked_by(api, time.monotonic())
        return await self._answer(asked, chosen, self._api(known))

    def _api(self, known: Learned) -> Api:
        return APIS[known.api or self.client.endpoint.api]

    async def _answer(self, asked: Asked, chosen: Route, api: Api) -> Content:
        dialect = api.to_dialect(chosen.endpoint.dialect)
        if dialect is not chosen.endpoint.dialect:
            chosen = replace(chosen, endpoint=replace(chosen.endpoint, dialect=dialect))
        count = partial(self._counter.estimate, chosen)
        request, applied = apply_edits(without_compaction_blocks(asked.request), count)
        wanted = compaction.wanted(request, count)
        exchange = await self._exchange(asked, request, chosen, api)
        if request.get("context_management") is not None:
            report = {"applied_edits": applied}
            exchange = replace(exchange, spec=replace(exchange.spec, context_management=report))
        if wanted is None or request["max_tokens"] == 0:
            return await self._answering.answer(request, exchange)
        return await self._compacted(asked, request, chosen, exchange, wanted)

    async def count_tokens(self, asked: Asked, chosen: Route) -> JsonObject:
        """The answer to `POST /v1/messages/count_tokens`; the model is not run. Never fails."""
        return await self._counter.count(
            self.client.for_client(
                asked.client, asked.progress.observation, asked.progress.repeats
            ),
            asked.request,
            chosen,
        )

    async def good(self, client: EndpointClient, reply: Reply, request_id: str) -> bytes:
        """The body of a good reply to a question. Raises ApiError for any other."""
        return await self.sender.good(client, reply, request_id)

    def learned(self, model: str) -> JsonObject:
        """What is known of a model, to be told."""
        return self.sender.learned(model).described()

    def estimate(self, request: JsonObject, chosen: Route) -> int:
        """Input tokens of a checked request, without translating it or asking the upstream."""
        return self._counter.estimate(chosen, request)

    async def _exchange(
        self, asked: Asked, request: JsonObject, chosen: Route, api: Api
    ) -> Exchange:
        translated = await self._preparation.to_answer(request, chosen, asked.client.key)
        self._log.ignored(translated.notes.ignored)
        estimate = estimate_request(translated.body)
        client = self.client.for_client(
            asked.client, asked.progress.observation, asked.progress.repeats
        )
        progress = asked.progress
        progress.input_estimate = self._counter.predict(chosen.model, estimate)
        spec = self._spec(request, translated, asked, client.source, api)
        self._log.debug(
            "begun", request_id=asked.request_id, **_summary(request, translated.body, chosen)
        )
        progress.begins(chosen)
        progress.headers.update(unavailable_header(translated.notes.unavailable))
        return Exchange(asked.request_id, client, translated.body, spec, progress, estimate)

    async def _compacted(
        self,
        asked: Asked,
        request: JsonObject,
        chosen: Route,
        exchange: Exchange,
        wanted: compaction.Wanted,
    ) -> Content:
        """The summary that the request wants, and the answer that goes on from it."""
        asking = await self._exchange(
            asked, compaction.summary_request(request, wanted), chosen, exchange.spec.api
        )
        hidden = replace(asking, spec=replace(asking.spec, reasoning=Reasoning.HIDDEN))
        made = compaction.made(await self._answering.whole(hidden), request, wanted)
        if wanted.ends_with(made):
            events = compaction.alone(exchange.spec, made, wanted)
            return events if request.get("stream") else collect.to_message(events)
        following = await self._exchange(
            asked, compaction.continued(request, made), chosen, exchange.spec.api
        )
        spec = replace(exchange.spec, compaction=made, input_estimate=following.spec.input_estimate)
        return await self._answering.answer(request, replace(following, spec=spec))

    def _spec(
        self, request: JsonObject, translated: Translated, asked: Asked, source: Source, api: Api
    ) -> AnswerSpec:
        body = translated.body
        known = self.sender.learned(body["model"])
        return AnswerSpec(
            id=asked.message_id,
            model=request["model"],
            input_estimate=asked.progress.input_estimate,
            source=source,
            api=api,
            new_tool_id=partial(new_id, "toolu"),
            tool_names=tool_names(request),
            single_call=takes_one_call(request),
            signer=self._signer,
            tools=offered_tools(body),
            calls_in_text=self._calls_in_text and body.get("tool_choice") != "none",
            stop_sequences=request.get("stop_sequences") or [],
            reasoning=reasoning_display(request),
            context_window=known.window,
            structured=output_format(request) is not None,
            opens_thinking=known.opens_thinking.get(forbids_thinking(body), False),
            prefill=translated.prefill,
            fields=diagnostics(request),
            usage_fields=credit(request),
            asks_for_speed=request.get("speed") == "fast",
        )


def _other_api(refusal: Failure, learned: str | None) -> str | None:
    """The API that a model should be asked by instead; None when the refusal is not about that. An upstream may name the
    Responses API without having it.
    """
    if learned is None:
        return "responses" if wants_responses(refusal) else None
    return "chat_completions" if learned == "responses" and refusal.status in NOT_THERE else None


def _summary(request: JsonObject, body: JsonObject, chosen: Route) -> JsonObject:
    return {
        "model": request["model"],
        "upstream": chosen.endpoint.name,
        "upstream_model": body["model"],
        "messages": len(body["messages"]),
        "tools": len(body.get("tools", ())),
        "stream": bool(request.get("stream")),
    }
