"""SDK -> proxy -> a real model: SmolLM2-135M in llama.cpp's own server, the demo's upstream.

A model of this size does not reliably choose a tool or certain words. The assertions are about the
protocol: roles, forms, ends and usage.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import upstreams_from_settings
from anthropic_proxy.demo import embedded
from anthropic_proxy.gateway import token_counting
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.request.chat_request import to_chat_request
from tests.support.running_proxy import running_proxy

DEADLINE = 120  # seconds; a busy machine computes slowly
SLOT_TOKENS = 1024
THREADS = 1  # several threads wait for each other busily, which takes minutes on a busy machine
TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "Current weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Paris?"},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": "It is snowing, minus 7 degrees.",
            }
        ],
    },
]

# The same question gets the same answer. Sampling parameters exist in the API's older version only.
STEADY: dict[str, Any] = {
    "extra_body": {"temperature": 0},
    "extra_headers": {"anthropic-version": "2023-06-01"},
}


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-test",
        "max_tokens": 24,
        "messages": [{"role": "user", "content": text}],
        **STEADY,
        **more,
    }


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Base URL of the model's server."""
    with embedded.run_model_server(ctx=2 * SLOT_TOKENS, parallel=2, threads=THREADS) as server:
        yield server.base_url


@pytest.fixture
def fresh_model() -> Iterator[str]:
    """Yield the base URL of a model server that has served no request.

    The cache of a server changes how it rounds, and a model of this size then writes other words.
    Tests that expect certain words use a separate server, with one slot.
    """
    with embedded.run_model_server(ctx=SLOT_TOKENS, parallel=1, threads=THREADS) as server:
        yield server.base_url


@pytest.fixture(scope="module")
def client(model: str) -> Iterator[anthropic.Anthropic]:
    with sdk_client(model) as made:
        yield made


@pytest.fixture
def fresh_client(fresh_model: str) -> Iterator[anthropic.Anthropic]:
    with sdk_client(fresh_model) as made:
        yield made


@contextlib.contextmanager
def sdk_client(model: str) -> Iterator[anthropic.Anthropic]:
    """Run a proxy in front of `model`; yield the SDK's client of it."""
    with (
        running_proxy(model) as proxy,
        anthropic.Anthropic(
            base_url=proxy,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as made,
    ):
        yield made


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_text(fresh_client: anthropic.Anthropic) -> None:
    message = fresh_client.messages.create(**ask("What is the capital of France?"))
    assert "Paris" in text_of(message)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 5
    assert 0 < message.usage.output_tokens <= 24


def test_stream(fresh_client: anthropic.Anthropic) -> None:
    with fresh_client.messages.stream(**ask("What is the capital of France?")) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1, "the answer came in one piece"
    assert "".join(pieces) == text_of(message)
    assert "Paris" in text_of(message)
    assert 0 < message.usage.output_tokens <= 24


def test_system_prompt(client: anthropic.Anthropic) -> None:
    """It reaches the model: it costs tokens and changes the answer."""
    system = "You are a pirate. You only ever answer with the word Arrr."
    bare = client.messages.create(**ask("Who are you?"))
    told = client.messages.create(**ask("Who are you?", system=system))
    assert text_of(told) != text_of(bare)
    assert tokens_in(told) > tokens_in(bare)


def tokens_in(message: Any) -> int:
    return int(message.usage.input_tokens + message.usage.cache_read_input_tokens)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_stop_sequence(fresh_client: anthropic.Anthropic, streamed: bool) -> None:
    request = ask("What is the capital of France?", stop_sequences=["never said", "Paris"])
    if streamed:
        with fresh_client.messages.stream(**request) as stream:
            message = stream.get_final_message()
    else:
        message = fresh_client.messages.create(**request)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Paris")
    assert "capital" in text_of(message)
    assert "Paris" not in text_of(message)


def test_max_tokens(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{**ask("Tell me a long story."), "max_tokens": 5})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


def test_json_schema(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Rome"]},
            "size": {"type": "integer"},
        },
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    request = ask(
        "Name a city and its size.",
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    message = client.messages.create(**{**request, "max_tokens": 60})
    answer = json.loads(text_of(message))
    assert answer["city"] in ("Paris", "Rome")
    assert isinstance(answer["size"], int)


def test_tools(client: anthropic.Anthropic) -> None:
    """Offered, they reach the model; whatever it makes of them has the right form."""
    bare = client.messages.create(**ask("What is the weather in Paris?"))
    offered = client.messages.create(
        **{**ask("What is the weather in Paris?", tools=[TOOL]), "max_tokens": 60}
    )
    assert tokens_in(offered) > tokens_in(bare) + 30
    calls = [block for block in offered.content if block.type == "tool_use"]
    assert (offered.stop_reason == "tool_use") == bool(calls)
    assert all(call.name == "get_weather" and isinstance(call.input, dict) for call in calls)


def test_tool_result(client: anthropic.Anthropic) -> None:
    """A call and its result, replayed: the model reads the result."""
    message = client.messages.create(
        **{**ask("", tools=[TOOL]), "messages": HISTORY, "max_tokens": 40}
    )
    assert message.content, "no answer to the result"
    assert message.stop_reason in ("end_turn", "max_tokens", "tool_use")
    without = client.messages.create(
        **{**ask("", tools=[TOOL]), "messages": HISTORY[:1], "max_tokens": 1}
    )
    assert tokens_in(message) > tokens_in(without) + 20, (
        "the call and its result did not reach the model"
    )


SCHEMA_FORMAT = {
    "format": {
        "type": "json_schema",
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    }
}
COUNTED: dict[str, dict[str, Any]] = {
    "text": ask("The quick brown fox jumps over the lazy dog. " * 20),
    "special tokens as text": ask("What does <|im_end|> mean?"),
    "other scripts": ask(
        "\u4eba\u5de5\u667a\u80fd \u0411\u044b\u0441\u0442\u0440\u0430\u044f \U0001f30d"
    ),
    "system": ask("Hello", system="You are a pirate."),
    "blocks": ask(
        "",
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": text} for text in ("Hello", "you")],
            }
        ],
    ),
    "tools": ask("What is the weather in Paris?", tools=[TOOL]),
    "tool result": ask("", tools=[TOOL], messages=HISTORY),
    "format": ask("Name a city.", output_config=SCHEMA_FORMAT),
}


@pytest.mark.parametrize("name", COUNTED)
def test_count_tokens(client: anthropic.Anthropic, name: str) -> None:
    """Exactly what the answer to the same request reports."""
    request = COUNTED[name]
    asked = {
        field: value
        for field, value in request.items()
        if field not in ("max_tokens", "extra_body")
    }
    counted = client.messages.count_tokens(**asked).input_tokens
    assert counted == tokens_in(client.messages.create(**{**request, "max_tokens": 1}))


@pytest.mark.parametrize(
    "way", [token_counting._count_by_input_tokens, token_counting._count_by_template]
)
def test_ways_to_count(model: str, way: Any) -> None:
    """By both paths of this server (older ones have the second only), and not as vLLM."""
    endpoint = upstreams_from_settings(Settings(_env_file=None, UPSTREAM_BASE_URL=model))[0]
    body = to_chat_request(COUNTED["tool result"], Route(endpoint, "m")).body

    async def counted(way: Any) -> Any:
        async with httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as model_client:

            async def ask_model(url: str, question: dict[str, Any]) -> Any:
                return (await model_client.post(url, json=question)).json()

            return await way(ask_model, endpoint, body)

    assert asyncio.run(counted(token_counting._count_by_messages)) is None
    real = httpx.post(
        f"{model}/v1/chat/completions",
        json={**body, "max_tokens": 1},
        timeout=DEADLINE,
        trust_env=False,
    )
    assert asyncio.run(counted(way)) == real.json()["usage"]["prompt_tokens"]


def test_cancel(client: anthropic.Anthropic, model: str) -> None:
    """A client that disconnects frees the model: its slots are idle long before 900 tokens."""
    with client.messages.stream(
        **{**ask("Write a very long story about the sea."), "max_tokens": 900}
    ) as stream:
        assert next(iter(stream.text_stream))
        assert any(busy_slots(model))
    for _ in range(DEADLINE * 10):
        if not any(busy_slots(model)):
            break
    else:
        pytest.fail("the model goes on")
    message = client.messages.create(**ask("Hello"))
    assert message.content


def busy_slots(model: str) -> list[bool]:
    return [
        slot["is_processing"]
        for slot in httpx.get(f"{model}/slots", timeout=DEADLINE, trust_env=False).json()
    ]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_context_overflow(client: anthropic.Anthropic, streamed: bool) -> None:
    with pytest.raises(
        anthropic.BadRequestError, match=rf"prompt is too long: \d+ tokens > {SLOT_TOKENS} maximum"
    ):
        client.messages.create(**ask("word " * 3 * SLOT_TOKENS), stream=streamed)


def test_its_own_messages_api_passed_through(fresh_model: str) -> None:
    """llama.cpp speaks the API itself: its response is the same with and without the proxy."""
    request = {
        **ask("What is the capital of France?"),
        "extra_body": {"temperature": 0, "cache_prompt": False},
    }
    texts = []
    with running_proxy(fresh_model, UPSTREAM_API="messages") as proxy:
        for base_url in (fresh_model, proxy):
            with anthropic.Anthropic(
                base_url=base_url, api_key="any", max_retries=2, timeout=DEADLINE
            ) as direct:
                texts.append(text_of(direct.messages.create(**request)))
                with direct.messages.stream(**request) as stream:
                    texts.append(text_of(stream.get_final_message()))
                asked = {
                    name: value
                    for name, value in request.items()
                    if name not in ("max_tokens", "extra_body")
                }
                texts.append(str(direct.messages.count_tokens(**asked).input_tokens))
    assert "Paris" in texts[0]
    assert texts[:3] == texts[3:]
