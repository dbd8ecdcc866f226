"""Count the input tokens of a request, with an endpoint of the upstream or with an estimate.

Servers have different endpoints that count tokens without running the model. `_METHODS` is the
table of these methods. The first count for a model tries the methods, and the first method that
works is remembered. If no method works, the server is not queried again for some time. After any
failure the proxy returns an estimate, which is calibrated with the usage in earlier responses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from cachetools import LRUCache

from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.request.chat_request import TranslatedRequest
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.tokens.calibration import TokenCalibration
from anthropic_proxy.translate.tokens.estimate import (
    TokenEstimate,
    estimate_request,
    estimate_untranslated,
)
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object

# Time limit of one count. Claude Code requests 30 counts at once, and waits for all of them.
_TIMEOUT_SECONDS = 2
# Time until a server that supports no method is queried again.
_PAUSE_UNSUPPORTED_SECONDS = 600
# Time until a server that failed to count is queried again.
_PAUSE_FAILED_SECONDS = 30
_MAX_MODELS = 256

# Clients in JavaScript represent larger integers only approximately.
_MAX_TOKENS = 2**53


class _CountRefusedError(Exception):
    """The server did not count this request."""

    def __init__(self, *, is_missing: bool) -> None:
        """Create the error. is_missing: the server lacks the path, and so the method."""
        super().__init__()
        self.is_missing = is_missing


@dataclass
class _CountingState:
    """The state of the token counts of one model."""

    # The method that works; None while no method is known.
    method: "_Method | None" = None
    # No method is tried before this time, in seconds of the counter's clock.
    paused_until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TokenCounter:
    """Counts the input tokens of requests to one upstream, and calibrates its estimates."""

    def __init__(
        self,
        translate: Callable[[JsonObject, Route], Awaitable[TranslatedRequest]],
        adapt: Callable[[JsonObject], JsonObject],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a counter.

        translate: translates a checked request to the upstream's request, or raises ApiError.
        adapt: returns the upstream's request with the changes that its model needs.
        clock: monotonic, in seconds.
        """
        self._translate = translate
        self._adapt = adapt
        self._clock = clock
        self._ratios = TokenCalibration()
        # By the API and the model.
        self._states: LRUCache[tuple[str, str], _CountingState] = LRUCache(_MAX_MODELS)

    def predict(self, model: str, estimate: TokenEstimate) -> int:
        """Return the input tokens that the upstream will probably report for a request."""
        return self._ratios.predict(model, estimate)

    def observe(self, model: str, estimate: TokenEstimate, reported: int | None) -> None:
        """Calibrate the estimates with the input tokens that a response reported, if it did."""
        if reported is not None:
            self._ratios.observe(model, estimate, reported)

    async def count(
        self, client: UpstreamClient, request: JsonObject, route: Route, api: str
    ) -> JsonObject:
        """Return the response of `/v1/messages/count_tokens` to a checked request. Never fails.

        api: the API of the model; the profile of `route` is the one for this API.
        """
        request = expand_compaction_blocks(request)
        edited_request, applied_edits = apply_edits(request, partial(self.estimate, route))
        tokens = await self._count_tokens(client, edited_request, route, api)
        if request.get("context_management") is None:
            return {"input_tokens": tokens}
        original_tokens = tokens
        if applied_edits:
            original_tokens = await self._count_tokens(client, request, route, api)
        return {
            "input_tokens": tokens,
            "context_management": {"original_input_tokens": original_tokens},
        }

    def estimate(self, route: Route, request: JsonObject) -> int:
        """Return the estimated input tokens of a checked request without compaction blocks."""
        return self.predict(route.model, estimate_untranslated(request))

    async def _count_tokens(
        self, client: UpstreamClient, request: JsonObject, route: Route, api: str
    ) -> int:
        try:
            body = (await self._translate(request, route)).body
        except ApiError:
            # Return a count although the request cannot be sent: the client may change it first.
            return self.estimate(route, request)
        tokens = None
        methods = _choose_methods(route.profile, api)
        if methods:
            state = self._states.setdefault((api, route.model), _CountingState())
            tokens = await self._count_upstream(state, methods, client, self._adapt(body))
        return tokens or self.predict(route.model, estimate_request(body))

    async def _count_upstream(
        self,
        state: _CountingState,
        methods: "tuple[_Method, ...]",
        client: UpstreamClient,
        body: JsonObject,
    ) -> int | None:
        """Return the upstream's own count; None if it has none."""
        if state.method is None:
            # One request tries the methods. Other requests for this model wait for its result.
            async with state.lock:
                if state.method is None:
                    return await self._find_method(state, methods, client, body)
        return await self._count_by_method(state, state.method, client, body)

    async def _find_method(
        self,
        state: _CountingState,
        methods: "tuple[_Method, ...]",
        client: UpstreamClient,
        body: JsonObject,
    ) -> int | None:
        """Return the count of the first method that works, and remember the method.

        Return None if no method works.
        """
        if self._clock() < state.paused_until:
            return None
        pause = _PAUSE_UNSUPPORTED_SECONDS
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                for method in methods:
                    try:
                        tokens = await method(partial(_query, client), client.upstream, body)
                    except _CountRefusedError as error:
                        if not error.is_missing:
                            pause = _PAUSE_FAILED_SECONDS
                        continue
                    if tokens:
                        state.method = method
                        return tokens
        except (TimeoutError, ApiError):
            pause = _PAUSE_FAILED_SECONDS
        state.paused_until = self._clock() + pause
        return None

    async def _count_by_method(
        self, state: _CountingState, method: "_Method", client: UpstreamClient, body: JsonObject
    ) -> int | None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await method(partial(_query, client), client.upstream, body)
        except _CountRefusedError as error:
            if error.is_missing:
                # A different server uses the address now: detect the method again.
                state.method = None
            return None
        except (TimeoutError, ApiError):
            return None


async def _query(client: UpstreamClient, url: str, body: JsonObject) -> JsonObject:
    """Return the JSON object of the response. Raises _CountRefusedError and ApiError."""
    response = await client.query(url, dumps(body))
    try:
        content = await response.read()
    finally:
        await response.aclose()
    if response.status != 200:
        raise _CountRefusedError(is_missing=response.status in MISSING_PATH_STATUSES)
    return loads_object(content) or {}


# The fields of a request that a chat template reads.
_TOKENIZE_FIELDS = ("model", "messages", "tools", "chat_template_kwargs")

_Query = Callable[[str, JsonObject], Awaitable[JsonObject]]
_Method = Callable[[_Query, Upstream, JsonObject], Awaitable[int | None]]


async def _count_by_input_tokens(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """Count the complete request, images included: llama.cpp since 2026.

    Measured: the result equals the number in the responses.
    """
    response = await query(upstream.build_url("/chat/completions/input_tokens"), body)
    return _parse_count(response.get("input_tokens"))


async def _count_by_messages(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """Count the messages: vLLM (TokenizeChatRequest in its API reference) and compatible servers.

    Requests with images are not counted: these servers count only a placeholder for an image.
    """
    _refuse_media(body)
    payload: JsonObject = {name: value for name, value in body.items() if name in _TOKENIZE_FIELDS}
    payload["add_generation_prompt"] = True
    response = await query(upstream.build_root_url("/tokenize"), payload)
    return _parse_count(response.get("count"))


async def _count_by_template(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """Apply the chat template, and count the tokens of the prompt: llama.cpp before 2026.

    The prompt contains the special tokens of the template as text.
    """
    _refuse_media(body)
    prompt = (await query(upstream.build_root_url("/apply-template"), body)).get("prompt")
    if not isinstance(prompt, str):
        return None
    payload = {"content": prompt, "add_special": True, "parse_special": True}
    tokens = (await query(upstream.build_root_url("/tokenize"), payload)).get("tokens")
    return len(tokens) if isinstance(tokens, list) else None


# The fields of a Responses request that its counting endpoint accepts
# (platform.openai.com/docs/api-reference/responses/input-tokens).
_RESPONSES_FIELDS = (
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
)


async def _count_by_responses(query: _Query, upstream: Upstream, body: JsonObject) -> int | None:
    """Count the complete request, images and files included: OpenAI and Azure."""
    request = to_responses_request(body)
    payload = {name: request[name] for name in _RESPONSES_FIELDS if name in request}
    response = await query(upstream.build_url("/responses/input_tokens"), payload)
    return _parse_count(response.get("input_tokens"))


_METHODS: tuple[_Method, ...] = (_count_by_input_tokens, _count_by_messages, _count_by_template)


def _choose_methods(profile: ProviderProfile, api: str) -> tuple[_Method, ...]:
    """Return the methods to try for a model of an upstream; none for most hosted services."""
    if api == "responses" and profile.counts_responses:
        return (_count_by_responses,)
    return _METHODS if profile.counts_tokens else ()


def _refuse_media(body: JsonObject) -> None:
    """Raise _CountRefusedError for a request with images or files."""
    for message in body["messages"]:
        content = message.get("content")
        if not isinstance(content, list):
            continue
        if any(part["type"] != "text" for part in content):
            raise _CountRefusedError(is_missing=False)


def _parse_count(value: object) -> int | None:
    """Return `value` if it is a plausible number of tokens, otherwise None."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= _MAX_TOKENS else None
