"""Counting by the upstream: the method, the number of requests, and failures."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import upstreams_from_settings
from anthropic_proxy.gateway.token_counting import TokenCounter
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.request.chat_request import TranslatedRequest, to_chat_request
from anthropic_proxy.translate.tokens.estimate import TokenEstimate
from anthropic_proxy.upstream.client import create_upstream_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient

Json = dict[str, Any]
TOOL = {"name": "a", "input_schema": {"type": "object"}}
REQUEST: Json = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "tools": [TOOL]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
WITH_IMAGE: Json = {"model": "m", "messages": [{"role": "user", "content": [IMAGE]}]}
INPUT_TOKENS, TOKENIZE, TEMPLATE = (
    "/v1/chat/completions/input_tokens",
    "/tokenize",
    "/apply-template",
)


class Server:
    """Responds by path: an object, a status, an exception, or the result of a function."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Json]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(await request.aread())
        self.asked.append((request.url.path, body))
        answer = self.answers.get(request.url.path, 404)
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return (
            httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, json=answer)
        )

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting(TokenCounter):
    """A counter that asks one endpoint for its own model names."""

    def __init__(self, endpoint: Upstream, upstream: UpstreamHTTPClient, clock: Clock) -> None:
        super().__init__(translate, lambda body: body, clock)
        self._client = create_upstream_client(endpoint, upstream)

    async def counted(self, request: Json) -> Json:
        upstream = self._client.upstream
        return await self.count(
            self._client, request, Route(upstream, request["model"]), upstream.api
        )


def chosen(base: str, api: str = "chat_completions") -> Upstream:
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL=base, UPSTREAM_API=api)
    return upstreams_from_settings(settings)[0]


async def translate(request: Json, route: Route) -> TranslatedRequest:
    return to_chat_request(request, route)


def run(
    server: Server,
    play: Callable[[Counting, Clock], Awaitable[None]],
    base: str = "http://localhost:8000/v1",
    api: str = "chat_completions",
) -> None:
    async def main() -> None:
        upstream, clock = UpstreamHTTPClient(httpx.MockTransport(server)), Clock()
        endpoint = chosen(base, api)
        try:
            await play(Counting(endpoint, upstream, clock), clock)
        finally:
            await upstream.aclose()

    asyncio.run(main())


def by_prompt(body: Json) -> Json:
    return {"tokens": list(range(7))} if "content" in body else {"tokens": []}


@pytest.mark.parametrize(
    ("answers", "paths"),
    [
        pytest.param({INPUT_TOKENS: {"input_tokens": 7}}, [INPUT_TOKENS], id="llama.cpp"),
        pytest.param(
            {TOKENIZE: {"count": 7, "max_model_len": 9, "tokens": [1] * 7}}, [TOKENIZE], id="vllm"
        ),
        pytest.param(
            {TEMPLATE: {"prompt": "P"}, TOKENIZE: by_prompt},
            [TEMPLATE, TOKENIZE],
            id="old-llama.cpp",
        ),
    ],
)
def test_ways(answers: Json, paths: list[str]) -> None:
    """The first count finds the way, and later ones go it at once."""
    server = Server()
    server.answers = answers

    async def play(counter: Counting, _: Clock) -> None:
        assert await counter.counted(REQUEST) == {"input_tokens": 7}
        server.asked.clear()
        assert await counter.counted(REQUEST) == {"input_tokens": 7}
        assert server.paths == paths

    run(server, play)
    bodies = dict(server.asked)
    chat = bodies.get(INPUT_TOKENS) or bodies.get(TEMPLATE) or bodies[TOKENIZE]
    assert chat["messages"] == [{"role": "user", "content": "Hello"}]
    assert (chat["model"], chat["tools"][0]["function"]["name"]) == ("m", "a")
    if paths == [TOKENIZE]:
        assert chat.keys() == {"model", "messages", "tools", "add_generation_prompt"}
    if TEMPLATE in paths:
        assert bodies[TOKENIZE] == {"content": "P", "add_special": True, "parse_special": True}


def test_one_asks_for_thirty() -> None:
    server = Server()

    async def slow(_: Json) -> int:
        await asyncio.sleep(0)
        return 404

    server.answers = {
        INPUT_TOKENS: slow,
        TOKENIZE: lambda body: {"count": 7} if "messages" in body else 400,
    }

    async def play(counter: Counting, _: Clock) -> None:
        counts = await asyncio.gather(*(counter.counted(REQUEST) for _ in range(30)))
        assert counts == [{"input_tokens": 7}] * 30
        assert sorted(server.paths) == [TOKENIZE] * 30 + [INPUT_TOKENS]

    run(server, play)


@pytest.mark.parametrize(
    ("answer", "asked_first", "quiet"),
    [
        pytest.param(404, 3, 600, id="not-there"),
        pytest.param({"error": "Unexpected endpoint"}, 3, 600, id="something-else"),
        pytest.param(
            {"input_tokens": True, "count": "7", "prompt": 5, "tokens": {}}, 3, 600, id="no-number"
        ),
        pytest.param(
            {"input_tokens": 10**400, "count": -7, "prompt": None}, 3, 600, id="absurd-number"
        ),
        pytest.param(503, 3, 30, id="loading"),
        pytest.param(400, 3, 30, id="refused"),
        pytest.param(httpx.ConnectError("refused"), 1, 30, id="unreachable"),
    ],
)
def test_a_server_that_does_not_count_is_left_alone(
    answer: Any, asked_first: int, quiet: int
) -> None:
    server = Server()
    server.answers = dict.fromkeys((INPUT_TOKENS, TOKENIZE, TEMPLATE), answer)

    async def play(counter: Counting, clock: Clock) -> None:
        counts = await asyncio.gather(*(counter.counted(REQUEST) for _ in range(30)))
        assert 5 < counts[0]["input_tokens"] < 100
        assert counts == [counts[0]] * 30
        clock.now = quiet - 1
        await counter.counted(REQUEST)
        assert len(server.asked) == asked_first
        await counter.counted({**REQUEST, "model": "other"})
        assert len(server.asked) == 2 * asked_first, "another model may be on another server"
        clock.now = quiet
        server.answers = {INPUT_TOKENS: {"input_tokens": 7}}
        assert await counter.counted(REQUEST) == {"input_tokens": 7}

    run(server, play)


@pytest.mark.parametrize(
    "answer", [500, 400, httpx.ReadError("broken"), {"error": {}}, TimeoutError()]
)
def test_a_known_way_that_fails_once(answer: Any) -> None:
    server = Server()
    server.answers = {INPUT_TOKENS: {"input_tokens": 7}}

    async def play(counter: Counting, _: Clock) -> None:
        await counter.counted(REQUEST)
        server.answers = {INPUT_TOKENS: answer}
        assert (await counter.counted(REQUEST))["input_tokens"] > 7
        server.answers = {INPUT_TOKENS: {"input_tokens": 7}}
        assert await counter.counted(REQUEST) == {"input_tokens": 7}
        assert server.paths == [INPUT_TOKENS] * 3

    run(server, play)


def test_another_server_at_the_same_address() -> None:
    server = Server()
    server.answers = {INPUT_TOKENS: {"input_tokens": 7}}

    async def play(counter: Counting, _: Clock) -> None:
        await counter.counted(REQUEST)
        server.answers = {TOKENIZE: {"count": 8}}
        assert (await counter.counted(REQUEST))["input_tokens"] > 8
        assert await counter.counted(REQUEST) == {"input_tokens": 8}

    run(server, play)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.gateway.token_counting._TIMEOUT_SECONDS", 0)
    server = Server()
    server.answers = {INPUT_TOKENS: lambda _: asyncio.Event().wait()}

    async def play(counter: Counting, _clock: Clock) -> None:
        for _ in range(2):
            assert (await counter.counted(REQUEST))["input_tokens"] > 5

    run(server, play)
    assert len(server.asked) <= 1


@pytest.mark.parametrize("base", ["https://api.openai.com", "https://openrouter.ai/api"])
def test_services_are_not_asked(base: str) -> None:
    server = Server()

    async def play(counter: Counting, _: Clock) -> None:
        assert (await counter.counted(REQUEST))["input_tokens"] > 5

    run(server, play, base)
    assert server.asked == []


def test_images() -> None:
    """The server counts images or they are estimated; they do not decide whether it can count."""
    server = Server()
    server.answers = {TOKENIZE: {"count": 7}}

    async def play(counter: Counting, clock: Clock) -> None:
        assert (await counter.counted(WITH_IMAGE))["input_tokens"] > 1000
        clock.now = 30
        assert await counter.counted(REQUEST) == {"input_tokens": 7}
        assert (await counter.counted(WITH_IMAGE))["input_tokens"] > 1000
        server.answers = {INPUT_TOKENS: {"input_tokens": 9}}
        await counter.counted(REQUEST)
        assert await counter.counted(WITH_IMAGE) == {"input_tokens": 9}

    run(server, play)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [], "tool_choice": {"type": "tool", "name": "gone"}},
        {"messages": [{"role": "user", "content": ""}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "url", "url": "http://x"}}],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                }
            ]
        },
    ],
)
def test_what_can_not_be_sent_is_counted(fields: Json) -> None:
    server = Server()

    async def play(counter: Counting, _: Clock) -> None:
        assert (await counter.counted({**REQUEST, **fields}))["input_tokens"] > 0

    run(server, play)
    assert server.asked == []


def test_context_management() -> None:
    async def play(counter: Counting, _: Clock) -> None:
        answer = await counter.counted({**REQUEST, "context_management": {"edits": []}})
        assert answer["context_management"] == {"original_input_tokens": answer["input_tokens"]}
        assert "context_management" not in await counter.counted(
            {**REQUEST, "context_management": None}
        )

    run(Server(), play)


def test_many_models() -> None:
    """What is known of the model that was counted longest ago is given up."""
    server = Server()
    server.answers = {INPUT_TOKENS: {"input_tokens": 7}}

    async def play(counter: Counting, _: Clock) -> None:
        for number in range(257):
            await counter.counted({**REQUEST, "model": str(number)})
        server.answers, server.asked = {TOKENIZE: {"count": 8}}, []
        assert await counter.counted({**REQUEST, "model": "0"}) == {"input_tokens": 8}

    run(server, play)


def test_it_learns() -> None:
    async def play(counter: Counting, _clock: Clock) -> None:
        bare = (await counter.counted(REQUEST))["input_tokens"]
        for _ in range(3):
            counter.observe("m", TokenEstimate(1000), 2000)
            counter.observe("m", TokenEstimate(1000), None)
        assert (await counter.counted(REQUEST))["input_tokens"] > 1.4 * bare
        assert (await counter.counted({**REQUEST, "model": "other"}))["input_tokens"] == bare
        assert counter.predict("m", TokenEstimate(1000)) == pytest.approx(2000, rel=0.02)

    run(Server(), play)


RESPONSES_TOKENS = "/v1/responses/input_tokens"


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("https://api.openai.com", RESPONSES_TOKENS),
        ("https://eu.api.openai.com/v1", RESPONSES_TOKENS),
        ("https://a.openai.azure.com", "/openai/v1/responses/input_tokens"),
    ],
)
def test_the_responses_api_counts(base: str, path: str) -> None:
    server = Server()
    server.answers = {path: {"object": "response.input_tokens", "input_tokens": 7}}

    async def play(counter: Counting, _: Clock) -> None:
        for request in (REQUEST, WITH_IMAGE):
            assert await counter.counted({**request, "max_tokens": 100}) == {"input_tokens": 7}

    run(server, play, base, "responses")
    assert server.paths == [path, path]
    body = server.asked[0][1]
    assert body.keys() == {"model", "input", "tools"}
    assert body["input"] == [{"type": "message", "role": "user", "content": "Hello"}]
    assert server.asked[1][1]["input"][0]["content"][0]["type"] == "input_image"


@pytest.mark.parametrize("answer", [404, 405, 400, 429, 500, {}, {"input_tokens": "7"}])
def test_a_service_that_does_not_count_responses(answer: Any) -> None:
    server = Server()
    server.answers = {RESPONSES_TOKENS: answer}

    async def play(counter: Counting, _: Clock) -> None:
        for _attempt in range(2):
            assert (await counter.counted(REQUEST))["input_tokens"] > 5

    run(server, play, "https://api.openai.com", "responses")
    assert server.paths == [RESPONSES_TOKENS]


def test_a_local_server_with_the_responses_api() -> None:
    server = Server()
    server.answers = {TOKENIZE: {"count": 7}}

    async def play(counter: Counting, _: Clock) -> None:
        assert await counter.counted(REQUEST) == {"input_tokens": 7}

    run(server, play, api="responses")
    assert server.paths == [INPUT_TOKENS, TOKENIZE]
