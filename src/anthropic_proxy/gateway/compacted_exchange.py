"""Compact a conversation before the exchange: one exchange for the summary, and one that continues from it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from anthropic_proxy.gateway.exchange import Exchange, ExchangeRunner, TranslatedContent
from anthropic_proxy.translate import compaction
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import (
    ReasoningDisplay,
)
from anthropic_proxy.wire.json_codec import JsonObject


async def run_compacted(
    runner: ExchangeRunner,
    prepare: Callable[[JsonObject], Awaitable[Exchange]],
    request: JsonObject,
    exchange: Exchange,
    plan: compaction.SummaryPlan,
) -> TranslatedContent:
    """Fetch the summary that a request needs, then run the exchange that continues from it. Raises ApiError."""
    summary_exchange = await prepare(compaction.build_summary_request(request, plan))
    hidden_exchange = replace(
        summary_exchange, spec=replace(summary_exchange.spec, reasoning=ReasoningDisplay.HIDDEN)
    )
    summary = compaction.parse_summary(await runner.fetch_message(hidden_exchange), request, plan)
    if plan.ends_response(summary):
        events = compaction.build_summary_events(exchange.spec, summary, plan)
        return events if request.get("stream") else collect.collect_message(events)
    continuation = await prepare(compaction.apply_summary(request, summary))
    spec = replace(
        exchange.spec, compaction=summary, input_estimate=continuation.spec.input_estimate
    )
    return await runner.run(request, replace(continuation, spec=spec))
