"""How many input tokens a request has: counted by the upstream where it can without running the model, else estimated.

No two servers count alike, so each known way is a row of a table. Which one a server knows is found out by asking, with
the first request that is to be counted for a model, and remembered; a server that knows none is left alone for some
time. Whatever goes wrong on the way, the client gets the estimate, corrected by what earlier answers reported.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from anthropic_proxy.errors import NOT_THERE, ApiError
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.translate.compaction_blocks import without_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.request.chat_request import Translated
from anthropic_proxy.translate.tokens.calibration import TokenRatios
from anthropic_proxy.translate.tokens.estimate import (
    Estimate,
    estimate_request,
    estimate_untranslated,
)
from anthropic_proxy.upstream.client import EndpointClient
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object

# Seconds for one count. Claude Code asks for 30 at once and shows nothing until they are there.
_TIMEOUT = 2
# Seconds until a server that knows no way is asked again, and one that could not answer this once.
_PAUSE_UNKNOWN = 600
_PAUSE_UNANSWERED = 30
_MODELS = 256

# What is above this is no number of tokens, and more than clients can read exactly.
_MOST = 2**53


class _RefusedError(Exception):
    """The server did not count: it does not have the path (`not_there`), or has it and can't count this request now."""

    def __init__(self, *, not_there: bool) -> None:
        super().__init__()
        self.not_there = not_there


@dataclass
class _Known:
    """What is known of counting for one model: the way that works, or until when (monotonic seconds) none is tried."""

    way: "_Way | None" = None
    quiet_until: float = float("-inf")
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class TokenCounter:
    """Counts requests to one endpoint, and learns from the answers to them.

    translate: makes the upstream's request of a checked one, or raises ApiError. clock: monotonic seconds.
    """

    def __init__(
        self,
        translate: Callable[[JsonObject, Route], Awaitable[Translated]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._translate = translate
        self._clock = clock
        self._ratios = TokenRatios()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def predict(self, model: str, estimate: Estimate) -> int:
        """Input tokens that the upstream will report for a request, without asking it."""
        return self._ratios.predict(model, estimate)

    def observe(self, model: str, estimate: Estimate, reported: int | None) -> None:
        """Learn from an answer: input tokens as the upstream reported them, None when it did not."""
        if reported is not None:
            self._ratios.observe(model, estimate, reported)

    async def count(self, client: EndpointClient, request: JsonObject, chosen: Route) -> JsonObject:
        """The answer to `POST /v1/messages/count_tokens` for a checked request. Never fails."""
        edited, applied = apply_edits(request, partial(self.estimate, chosen))
        tokens = await self._tokens(client, edited, chosen)
        if request.get("context_management") is None:
            return {"input_tokens": tokens}
        original = await self._tokens(client, request, chosen) if applied else tokens
        return {"input_tokens": tokens, "context_management": {"original_input_tokens": original}}

    def estimate(self, chosen: Route, request: JsonObject) -> int:
        """Input tokens of a checked request, without translating it or asking the upstream."""
        return self.predict(chosen.model, estimate_untranslated(without_compaction_blocks(request)))

    async def _tokens(self, client: EndpointClient, request: JsonObject, chosen: Route) -> int:
        try:
            body = (await self._translate(request, chosen)).body
        except ApiError:
            # What can't be sent can still be counted: the client may be about to change just that.
            return self.estimate(chosen, request)
        counted = await self._counted(client, body) if chosen.dialect.counts_tokens else None
        return counted or self.predict(chosen.model, estimate_request(body))

    async def _counted(self, client: EndpointClient, body: JsonObject) -> int | None:
        """The upstream's own count; None when it can't be had."""
        known = self._known.setdefault(body["model"], _Known())
        self._known.move_to_end(body["model"])
        if len(self._known) > _MODELS:
            self._known.popitem(last=False)
        if known.way is None:
            # One asks, and the others that count for this model meanwhile wait for the outcome.
            async with known.asking:
                if known.way is None:
                    return (
                        await self._find_way(known, client, body)
                        if self._clock() >= known.quiet_until
                        else None
                    )
        return await self._go(known, known.way, client, body)

    async def _find_way(
        self, known: _Known, client: EndpointClient, body: JsonObject
    ) -> int | None:
        pause = _PAUSE_UNKNOWN
        try:
            async with asyncio.timeout(_TIMEOUT):
                for way in _WAYS:
                    try:
                        counted = await way(partial(_ask, client), client.endpoint, body)
                    except _RefusedError as error:
                        pause = pause if error.not_there else _PAUSE_UNANSWERED
                        continue
                    if counted:
                        known.way = way
                        return counted
        except (TimeoutError, ApiError):
            pause = _PAUSE_UNANSWERED
        known.quiet_until = self._clock() + pause
        return None

    async def _go(
        self, known: _Known, way: "_Way", client: EndpointClient, body: JsonObject
    ) -> int | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await way(partial(_ask, client), client.endpoint, body)
        except _RefusedError as error:
            if error.not_there:
                # Another server has taken the address: ask again what it knows.
                known.way = None
            return None
        except (TimeoutError, ApiError):
            return None


async def _ask(client: EndpointClient, url: str, body: JsonObject) -> JsonObject:
    """The object that the server answers with, which may be about something else. Raises _RefusedError, ApiError."""
    reply = await client.ask(url, dumps(body))
    try:
        raw = await reply.read()
    finally:
        await reply.aclose()
    if reply.status != 200:
        raise _RefusedError(not_there=reply.status in NOT_THERE)
    return loads_object(raw) or {}


# What a chat template sees of a request.
_TOKENIZE_FIELDS = ("model", "messages", "tools", "chat_template_kwargs")

_Ask = Callable[[str, JsonObject], Awaitable[JsonObject]]
_Way = Callable[[_Ask, Endpoint, JsonObject], Awaitable[int | None]]


async def _by_input_tokens(ask: _Ask, endpoint: Endpoint, body: JsonObject) -> int | None:
    """llama.cpp since 2026: the whole request, images included. Measured: the same as its answers report."""
    return _number(
        (await ask(endpoint.url("/chat/completions/input_tokens"), body)).get("input_tokens")
    )


async def _by_messages(ask: _Ask, endpoint: Endpoint, body: JsonObject) -> int | None:
    """vLLM (TokenizeChatRequest in its API reference) and what follows it. Images would count as their place holders."""
    _refuse_media(body)
    question: JsonObject = {name: value for name, value in body.items() if name in _TOKENIZE_FIELDS}
    return _number(
        (await ask(endpoint.root_url("/tokenize"), question | {"add_generation_prompt": True})).get(
            "count"
        )
    )


async def _by_template(ask: _Ask, endpoint: Endpoint, body: JsonObject) -> int | None:
    """llama.cpp before: first the prompt, then its tokens. The prompt has the template's special tokens as text."""
    _refuse_media(body)
    prompt = (await ask(endpoint.root_url("/apply-template"), body)).get("prompt")
    if not isinstance(prompt, str):
        return None
    question = {"content": prompt, "add_special": True, "parse_special": True}
    tokens = (await ask(endpoint.root_url("/tokenize"), question)).get("tokens")
    return len(tokens) if isinstance(tokens, list) else None


_WAYS: tuple[_Way, ...] = (_by_input_tokens, _by_messages, _by_template)


def _refuse_media(body: JsonObject) -> None:
    contents = (message.get("content") for message in body["messages"])
    if any(
        part["type"] != "text"
        for content in contents
        if isinstance(content, list)
        for part in content
    ):
        raise _RefusedError(not_there=False)


def _number(value: object) -> int | None:
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST
        else None
    )
