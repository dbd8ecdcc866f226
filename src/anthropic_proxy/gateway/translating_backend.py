"""The backend that translates: requests to Chat Completions or Responses, and responses back.

request -> translate -> send -> translate back. Every failure is an ApiError.
"""

import time
from dataclasses import replace
from functools import partial

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.compacted_exchange import run_compacted
from anthropic_proxy.gateway.exchange import ExchangeRunner, TranslatedContent
from anthropic_proxy.gateway.exchange_preparation import ExchangePreparer
from anthropic_proxy.gateway.model_memory import ModelMemory
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate import compaction
from anthropic_proxy.translate.apis import APIS, Api
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.upstream_errors import UpstreamFailureError
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import RawResponse
from anthropic_proxy.wire.json_codec import JsonObject

# The Responses API, and back.
_MAX_APIS = 2


class TranslatingBackend:
    """Translates requests for one upstream, to which `client` sends.

    calls_in_text: whether tool calls that the model writes as text become tool calls.
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
        self._log = sender.log
        self._counter = TokenCounter(preparation.prepare_for_counting)
        self._preparer = ExchangePreparer(
            client, preparation, signer, sender, self._counter, calls_in_text=calls_in_text
        )
        self._runner = ExchangeRunner(sender, self._counter, preparation.threads)

    async def create_message(self, context: RequestContext, route: Route) -> TranslatedContent:
        """Return the response of the route's model, requested by the API that it takes. Raises ApiError."""
        memory = self.sender.get_memory(route.model)
        for _ in range(_MAX_APIS):
            try:
                return await self._create_message_by(context, route, self._select_api(memory))
            except UpstreamFailureError as error:
                api = memory.other_api(error.failure)
                if api is None or self.client.upstream.api != "chat_completions":
                    raise
                self._log.info(
                    "upstream API changed",
                    request_id=context.request_id,
                    model=route.model,
                    api=api,
                    reason=error.message,
                )
                self.sender.metrics.count_request_change(self.client.upstream.name, f"api_{api}")
                memory.set_api(api, time.monotonic())
        return await self._create_message_by(context, route, self._select_api(memory))

    def _select_api(self, memory: ModelMemory) -> Api:
        return APIS[memory.api or self.client.upstream.api]

    async def _create_message_by(
        self, context: RequestContext, route: Route, api: Api
    ) -> TranslatedContent:
        profile = api.to_profile(route.upstream.profile)
        if profile is not route.upstream.profile:
            route = replace(route, upstream=replace(route.upstream, profile=profile))
        count = partial(self._counter.estimate, route)
        request, applied_edits = apply_edits(expand_compaction_blocks(context.request), count)
        plan = compaction.plan_summary(request, count)
        prepare = partial(self._preparer.prepare, context, route=route, api=api)
        exchange = await prepare(request)
        if request.get("context_management") is not None:
            report = {"applied_edits": applied_edits}
            exchange = replace(exchange, spec=replace(exchange.spec, context_management=report))
        if plan is None or request["max_tokens"] == 0:
            return await self._runner.run(request, exchange)
        return await run_compacted(self._runner, prepare, request, exchange, plan)

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
        """Return the body of a successful response. Raises ApiError for any other."""
        return await self.sender.read_ok(client, response, request_id)

    def describe_memory(self, model: str) -> JsonObject:
        """Return what is remembered of a model, as JSON."""
        return self.sender.get_memory(model).describe()

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:
        """Return the input tokens of a checked request, without translating it or querying the upstream."""
        return self._counter.estimate(route, request)
