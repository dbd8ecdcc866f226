"""How many input tokens a request has: counted by the upstream where it can without running the model, else estimated.

No two servers count alike, so each known way is a row of a table. Which one a server knows is found out by asking, with
the first request that is to be counted for a model, and remembered; a server that knows none is left alone for some
time. Whatever goes wrong on the way, the client gets the estimate, corrected by what earlier answers reported.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from cachetools import LRUCache

from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.request.chat_request import TranslatedRequest
from anthropic_proxy.translate.tokens.calibration import TokenCalibration
from anthropic_proxy.translate.tokens.estimate import (
    TokenEstimate,
    estimate_request,
    estimate_untranslated,
)
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object

# Seconds for one count. Claude Code asks for 30 at once and shows nothing until they are there.
_TIMEOUT = 2
# Seconds until a server that knows no way is asked again, and one that could not answer this once.
_PAUSE_UNKNOWN = 600
_PAUSE_FAILED = 30
_MAX_MODELS = 256

# What is above this is no number of tokens, and more than clients can read exactly.
_MAX_TOKENS = 2**53


class _CountRefusedError(Exception):
    """The server did not count: the path is missing (`is_missing`), or it cannot count this request now."""

    def __init__(self, *, is_missing: bool) -> None:
        super().__init__()
        self.is_missing = is_missing


@dataclass
class _CountingState:
    """How one model's tokens are counted: the method that works, or until when (monotonic seconds) none is tried."""

    method: "_Method | None" = None
    paused_until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TokenCounter:
    """Counts the input tokens of requests to one upstream, and calibrates its estimates with what is reported.

    translate: creates the upstream's request from a checked one, or raises ApiError. clock: monotonic seconds.
    """

    def __init__(
        self,
        translate: Callable[[JsonObject, Route], Awaitable[TranslatedRequest]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._translate = translate
        self._clock = clock
        self._ratios = TokenCalibration()
        self._states: LRUCache[str, _CountingState] = LRUCache(_MAX_MODELS)

    def predict(self, model: str, estimate: TokenEstimate) -> int:
        """Input tokens that the upstream will report for a request, without asking it."""
        return self._ratios.predict(model, estimate)

    def observe(self, model: str, estimate: TokenEstimate, reported: int | None) -> None:
        """Learn from an answer: input tokens as the upstream reported them, None when it did not."""
        if reported is not None:
            self._ratios.observe(model, estimate, reported)

    async def count(self, client: UpstreamClient, request: JsonObject, route: Route) -> JsonObject:
        """The answer to `POST /v1/messages/count_tokens` for a checked request. Never fails."""
        request = expand_compaction_blocks(request)
        edited_request, applied_edits = apply_edits(request, partial(self.estimate, route))
        tokens = await self._count_tokens(client, edited_request, route)
        if request.get("context_management") is None:
            return {"input_tokens": tokens}
        original_tokens = (
            await self._count_tokens(client, request, route) if applied_edits else tokens
        )
        return {
            "input_tokens": tokens,
            "context_management": {"original_input_tokens": original_tokens},
        }

    def estimate(self, route: Route, request: JsonObject) -> int:
        """Input tokens of a checked request without compaction blocks, without translating it or asking the upstream."""
        return self.predict(route.model, estimate_untranslated(request))

    async def _count_tokens(self, client: UpstreamClient, request: JsonObject, route: Route) -> int:
        try:
            body = (await self._translate(request, route)).body
        except ApiError:
            # What can't be sent can still be counted: the client may be about to change just that.
            return self.estimate(route, request)
        tokens = await self._count_upstream(client, body) if route.profile.counts_tokens else None
        return tokens or self.predict(route.model, estimate_request(body))

    async def _count_upstream(self, client: UpstreamClient, body: JsonObject) -> int | None:
        """The upstream's own count; None when it can't be had."""
        state = self._states.setdefault(body["model"], _CountingState())
        if state.method is None:
            # One asks, and the others that count for this model meanwhile wait for the outcome.
            async with state.lock:
                if state.method is None:
                    return (
                        await self._find_method(state, client, body)
                        if self._clock() >= state.paused_until
                        else None
                    )
        return await self._count_by_method(state, state.method, client, body)

    async def _find_method(
        self, state: _CountingState, client: UpstreamClient, body: JsonObject
    ) -> int | None:
        pause = _PAUSE_UNKNOWN
        try:
            async with asyncio.timeout(_TIMEOUT):
                for method in _METHODS:
                    try:
                        tokens = await method(partial(_query, client), client.upstream, body)
                    except _CountRefusedError as error:
                        pause = pause if error.is_missing else _PAUSE_FAILED
                        continue
                    if tokens:
                        state.method = method
                        return tokens
        except (TimeoutError, ApiError):
            pause = _PAUSE_FAILED
        state.paused_until = self._clock() + pause
        return None

    async def _count_by_method(
        self, state: _CountingState, method: "_Method", client: UpstreamClient, body: JsonObject
    ) -> int | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await method(partial(_query, client), client.upstream, body)
        except _CountRefusedError as error:
            if error.is_missing:
                # Another server has taken the address: detect the method again.
                state.method = None
            return None
        except (TimeoutError, ApiError):
            return None


async def _query(client: UpstreamClient, url: str, body: JsonObject) -> JsonObject:
    """Return the JSON object of the response, whatever its fields. Raises _CountRefusedError and ApiError."""
    response = await client.query(url, dumps(body))
    try:
        content = await response.read()
    finally:
        await response.aclose()
    if response.status != 200:
        raise _CountRefusedError(is_missing=response.status in MISSING_PATH_STATUSES)
    return loads_object(content) or {}


# What a chat template sees of a request.
_TOKENIZE_FIELDS = ("model", "messages", "tools", "chat_template_kwargs")

_Query = Callable[[str, JsonObject], Awaitable[JsonObject]]
_Method = Callable[[_Query, Upstream, JsonObject], Awaitable[int | None]]


async def _count_by_input_tokens(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """llama.cpp since 2026: the whole request, images included. Measured: the same as its answers report."""
    return _parse_count(
        (await query(upstream.build_url("/chat/completions/input_tokens"), body)).get(
            "input_tokens"
        )
    )


async def _count_by_messages(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """vLLM (TokenizeChatRequest in its API reference) and what follows it. Images would count as their place holders."""
    _refuse_media(body)
    payload: JsonObject = {name: value for name, value in body.items() if name in _TOKENIZE_FIELDS}
    return _parse_count(
        (
            await query(
                upstream.build_root_url("/tokenize"), payload | {"add_generation_prompt": True}
            )
        ).get("count")
    )


async def _count_by_template(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """llama.cpp before: first the prompt, then its tokens. The prompt has the template's special tokens as text."""
    _refuse_media(body)
    prompt = (await query(upstream.build_root_url("/apply-template"), body)).get("prompt")
    if not isinstance(prompt, str):
        return None
    payload = {"content": prompt, "add_special": True, "parse_special": True}
    tokens = (await query(upstream.build_root_url("/tokenize"), payload)).get("tokens")
    return len(tokens) if isinstance(tokens, list) else None


_METHODS: tuple[_Method, ...] = (_count_by_input_tokens, _count_by_messages, _count_by_template)


def _refuse_media(body: JsonObject) -> None:
    contents = (message.get("content") for message in body["messages"])
    if any(
        part["type"] != "text"
        for content in contents
        if isinstance(content, list)
        for part in content
    ):
        raise _CountRefusedError(is_missing=False)


def _parse_count(value: object) -> int | None:
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_TOKENS
        else None
    )
