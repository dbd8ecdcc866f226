"""The translating backend: convert requests to an OpenAI-compatible API, and responses back."""

import time
from functools import partial
from typing import TypeVar

from anthropic_proxy.gateway.adaptive_sender import AdaptiveSender
from anthropic_proxy.gateway.conversation_sender import ConversationSender, Delivery, to_api_route
from anthropic_proxy.gateway.exchange import Exchange
from anthropic_proxy.gateway.request_context import RequestContext
from anthropic_proxy.gateway.request_preparation import RequestPreparer
from anthropic_proxy.gateway.request_translation import RequestTranslator
from anthropic_proxy.gateway.streams.message_stream import EventListStream, MessageStream
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.gateway.upstream_response import parse_caller_error, read_successful_body
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.translate.upstream_errors import UpstreamFailureError
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_Result = TypeVar("_Result")


class TranslatingBackend:
    """Translates requests for one upstream. `client` sends them. See `Backend`."""

    def __init__(
        self,
        client: UpstreamClient,
        translator: RequestTranslator,
        signer: Signer,
        sender: AdaptiveSender,
        *,
        calls_in_text: bool,
    ) -> None:
        """Create a backend.

        calls_in_text: whether tool calls that the model writes as text become tool calls.
        """
        self.client = client
        self.sender = sender
        self._log = sender.log
        self._counter = TokenCounter(translator.translate_for_counting, self._adapt_to_model)
        preparer = RequestPreparer(
            client, translator, signer, sender, self._counter, calls_in_text=calls_in_text
        )
        exchange = Exchange(sender, self._counter, translator.threads)
        self._conversation = ConversationSender(preparer, self._counter, exchange.fetch_message)
        self._as_message = Delivery(exchange.fetch_message, collect_message)
        self._as_stream = Delivery[MessageStream](exchange.open_stream, EventListStream)

    async def create_message(self, context: RequestContext, route: Route) -> bytes:
        """Send a request, and return the Message as JSON. Raises ApiError."""
        return dumps(await self._respond(context, route, self._as_message))

    async def open_stream(self, context: RequestContext, route: Route) -> MessageStream:
        """Send a request, and return the stream of its Message. Raises ApiError."""
        return await self._respond(context, route, self._as_stream)

    async def count_tokens(self, context: RequestContext, route: Route) -> bytes:
        """Return the number of input tokens as JSON, without a model run. Never fails."""
        client = self.client.for_request(context.caller, context.observation, context.retry_plan)
        api = self._get_api(route)
        api_route = to_api_route(route, APIS[api])
        return dumps(await self._counter.count(client, context.request, api_route, api))

    async def read_successful_body(
        self, client: UpstreamClient, response: UpstreamResponse, request_id: str
    ) -> bytes:
        """Return the body of a successful response. Raises ApiError for an unsuccessful one."""
        to_error = partial(parse_caller_error, client, response)
        return await read_successful_body(response, self._log, request_id, to_error)

    def get_context_window(self, model: str) -> int:
        """Return the context window of a model in tokens; 0 if it is unknown."""
        return self.sender.get_memory(model).get_context_window(time.monotonic())

    def describe_memory(self, model: str) -> JsonObject:
        """Return the memory of a model as JSON."""
        return self.sender.get_memory(model).describe()

    def estimate_tokens(self, request: JsonObject, route: Route) -> int:
        """Return an estimate of a checked request's input tokens. Sends nothing to the upstream."""
        return self._counter.estimate(route, expand_compaction_blocks(request))

    async def _respond(
        self, context: RequestContext, route: Route, delivery: Delivery[_Result]
    ) -> _Result:
        """Respond with the model's API, or with the other API if the upstream requires it."""
        while True:
            api = self._get_api(route)
            try:
                return await self._conversation.send(context, route, APIS[api], delivery)
            except UpstreamFailureError as error:
                if not self._change_api(context, route, api, error):
                    raise

    def _get_api(self, route: Route) -> str:
        """Return the API to use for a model."""
        return self.sender.get_memory(route.model).api or self.client.upstream.api

    def _adapt_to_model(self, body: JsonObject) -> JsonObject:
        """Return an upstream request with the changes that its model needs."""
        memory = self.sender.get_memory(body["model"])
        return memory.apply_to(body, 0, time.monotonic())

    def _change_api(
        self, context: RequestContext, route: Route, used_api: str, error: UpstreamFailureError
    ) -> bool:
        """Record the API that a refusal requires, and return whether to send the request to it."""
        upstream = self.client.upstream
        memory = self.sender.get_memory(route.model)
        api = memory.other_api(used_api, error.failure)
        if api is None or upstream.api != "chat_completions":
            return False
        memory.set_api(api, time.monotonic())
        if not context.retry_plan.try_change_api(upstream):
            return False
        self._log.info(
            "upstream API changed",
            request_id=context.request_id,
            model=route.model,
            api=api,
            reason=error.message,
        )
        self.sender.metrics.count_request_change(upstream.name, f"api_{api}")
        return True
