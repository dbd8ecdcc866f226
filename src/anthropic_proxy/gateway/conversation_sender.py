"""Send a request with its context management: edits of the conversation, and its compaction."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from anthropic_proxy.gateway.prepared_request import PreparedRequest
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate import compaction
from anthropic_proxy.translate.adaptation.output_rules import is_output_limit_reached
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.response.spec import ReasoningDisplay
from anthropic_proxy.translate.response.whole import build_empty_events
from anthropic_proxy.translate.upstream_errors import UpstreamFailureError
from anthropic_proxy.wire.json_codec import JsonObject

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Delivery(Generic[_Result]):
    """The form in which a response is returned: as one Message, or as a stream of events."""

    # Sends a request to the upstream, and returns its response.
    fetch: Callable[[RequestContext, PreparedRequest], Awaitable[_Result]]
    # Returns a response that is created from events, without a request to the upstream.
    from_events: Callable[[list[JsonObject]], _Result]


class ConversationSender:
    """Sends conversations to one upstream."""

    def __init__(
        self,
        preparer: RequestPreparer,
        counter: TokenCounter,
        fetch_message: Callable[[RequestContext, PreparedRequest], Awaitable[JsonObject]],
    ) -> None:
        """Create a sender. fetch_message: requests the summary of a conversation."""
        self._preparer = preparer
        self._counter = counter
        self._fetch_message = fetch_message

    async def send(
        self, context: RequestContext, route: Route, api: Api, delivery: Delivery[_Result]
    ) -> _Result:
        """Send a request to one API, and return its response. Raises ApiError.

        Applies the request's context edits and its compaction first.
        """
        route = to_api_route(route, api)
        count = partial(self._counter.estimate, route)
        request, applied_edits = apply_edits(expand_compaction_blocks(context.request), count)
        plan = compaction.plan_summary(request, count)
        prepare = partial(self._preparer.prepare, context, route=route, api=api)
        prepared = await prepare(request)
        if request.get("context_management") is not None:
            report = {"applied_edits": applied_edits}
            prepared = replace(prepared, spec=replace(prepared.spec, context_management=report))
        if request["max_tokens"] == 0:
            # In the API, `max_tokens: 0` only checks whether the request can be served.
            return delivery.from_events(build_empty_events(prepared.spec))
        if plan is not None:
            return await self._send_compacted(
                context, prepare, request, prepared=prepared, plan=plan, delivery=delivery
            )
        try:
            return await delivery.fetch(context, prepared)
        except UpstreamFailureError as error:
            if not is_output_limit_reached(error.failure):
                raise
            return delivery.from_events(build_empty_events(prepared.spec))

    async def _send_compacted(  # noqa: PLR0913 - the state of `send`
        self,
        context: RequestContext,
        prepare: Callable[[JsonObject], Awaitable[PreparedRequest]],
        request: JsonObject,
        *,
        prepared: PreparedRequest,
        plan: compaction.SummaryPlan,
        delivery: Delivery[_Result],
    ) -> _Result:
        """Request a summary of the conversation, and send the request with that summary."""
        if context.summary_message is None:
            context.retry_plan.begin_compaction()
            summary_request = await prepare(compaction.build_summary_request(request, plan))
            spec = replace(summary_request.spec, reasoning=ReasoningDisplay.HIDDEN)
            context.summary_message = await self._fetch_message(
                context, replace(summary_request, spec=spec)
            )
            context.retry_plan.end_compaction()
        summary = compaction.parse_summary(context.summary_message, request, plan)
        if plan.ends_response(summary):
            events = compaction.build_summary_events(prepared.spec, summary, plan)
            return delivery.from_events(events)
        continuation = await prepare(compaction.apply_summary(request, summary))
        spec = replace(
            prepared.spec, compaction=summary, input_estimate=continuation.spec.input_estimate
        )
        return await delivery.fetch(context, replace(continuation, spec=spec))


def to_api_route(route: Route, api: Api) -> Route:
    """Return the route with the upstream's profile for an API."""
    profile = api.to_profile(route.upstream.profile)
    if profile is route.upstream.profile:
        return route
    return replace(route, upstream=replace(route.upstream, profile=profile))
