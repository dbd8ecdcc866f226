"""SDK -> proxy -> a real model: SmolLM2-135M in the llama.cpp server of the demo.

A model of this size does not reliably choose a tool or certain words.
The assertions test the protocol: roles, types, stop reasons and usage.
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
THREADS = 1  # several threads spin while they wait, which takes minutes on a busy machine
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

# Equal requests get equal responses. Only the older API version has sampling parameters.
DETERMINISTIC: dict[str, Any] = {
    "extra_body": {"temperature": 0},
    "extra_headers": {"anthropic-version": "2023-06-01"},
}


def build_request(text: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-test",
        "max_tokens": 24,
        "messages": [{"role": "user", "content": text}],
        **DETERMINISTIC,
        **fields,
    }


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Yield the base URL of the model server."""
    with embedded.run_model_server(ctx=2 * SLOT_TOKENS, parallel=2, threads=THREADS) as server:
        yield server.base_url


@pytest.fixture
def fresh_model() -> Iterator[str]:
    """Yield the base URL of a new model server with an empty cache.

    The cache changes the rounding, and a model of this size then writes different words.
    Tests that expect certain words use a separate server with one slot.
    """
    with embedded.run_model_server(ctx=SLOT_TOKENS, parallel=1, threads=THREADS) as server:
        yield server.base_url


@pytest.fixture(scope="module")
def client(model: str) -> Iterator[anthropic.Anthropic]:
    with sdk_client(model) as sdk:
        yield sdk


@pytest.fixture
def fresh_client(fresh_model: str) -> Iterator[anthropic.Anthropic]:
    with sdk_client(fresh_model) as sdk:
        yield sdk


@contextlib.contextmanager
def sdk_client(model: str) -> Iterator[anthropic.Anthropic]:
    """Run a proxy in front of `model` and yield an SDK client for it."""
    with (
        running_proxy(model) as proxy,
        anthropic.Anthropic(
            base_url=proxy,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as sdk,
    ):
        yield sdk


def join_text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_text_response_is_returned(fresh_client: anthropic.Anthropic) -> None:
    message = fresh_client.messages.create(**build_request("What is the capital of France?"))
    assert "Paris" in join_text(message)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 5
    assert 0 < message.usage.output_tokens <= 24


def test_a_text_response_is_streamed(fresh_client: anthropic.Anthropic) -> None:
    with fresh_client.messages.stream(**build_request("What is the capital of France?")) as stream:
        deltas = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(deltas) > 1, "the response has only one delta"
    assert "".join(deltas) == join_text(message)
    assert "Paris" in join_text(message)
    assert 0 < message.usage.output_tokens <= 24


def test_the_system_prompt_is_forwarded(client: anthropic.Anthropic) -> None:
    """The system prompt adds tokens and changes the response."""
    system = "You are a pirate. You only ever answer with the word Arrr."
    without_system = client.messages.create(**build_request("Who are you?"))
    with_system = client.messages.create(**build_request("Who are you?", system=system))
    assert join_text(with_system) != join_text(without_system)
    assert count_input_tokens(with_system) > count_input_tokens(without_system)


def count_input_tokens(message: Any) -> int:
    return int(message.usage.input_tokens + message.usage.cache_read_input_tokens)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "complete"])
def test_a_stop_sequence_ends_the_response(
    fresh_client: anthropic.Anthropic, streamed: bool
) -> None:
    request = build_request(
        "What is the capital of France?", stop_sequences=["never said", "Paris"]
    )
    if streamed:
        with fresh_client.messages.stream(**request) as stream:
            message = stream.get_final_message()
    else:
        message = fresh_client.messages.create(**request)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Paris")
    assert "capital" in join_text(message)
    assert "Paris" not in join_text(message)


def test_max_tokens_ends_the_response(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{**build_request("Tell me a long story."), "max_tokens": 5})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


def test_the_response_matches_the_json_schema(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Rome"]},
            "size": {"type": "integer"},
        },
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    request = build_request(
        "Name a city and its size.",
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    message = client.messages.create(**{**request, "max_tokens": 60})
    content = json.loads(join_text(message))
    assert content["city"] in ("Paris", "Rome")
    assert isinstance(content["size"], int)


def test_tools_are_forwarded(client: anthropic.Anthropic) -> None:
    """The model may or may not call the tool, but each call has the correct form."""
    without_tools = client.messages.create(**build_request("What is the weather in Paris?"))
    with_tools = client.messages.create(
        **{**build_request("What is the weather in Paris?", tools=[TOOL]), "max_tokens": 60}
    )
    assert count_input_tokens(with_tools) > count_input_tokens(without_tools) + 30
    calls = [block for block in with_tools.content if block.type == "tool_use"]
    assert (with_tools.stop_reason == "tool_use") == bool(calls)
    assert all(call.name == "get_weather" and isinstance(call.input, dict) for call in calls)


def test_a_tool_result_is_forwarded(client: anthropic.Anthropic) -> None:
    """The model reads a call and its result from the history."""
    message = client.messages.create(
        **{**build_request("", tools=[TOOL]), "messages": HISTORY, "max_tokens": 40}
    )
    assert message.content, "the response to the result is empty"
    assert message.stop_reason in ("end_turn", "max_tokens", "tool_use")
    without_result = client.messages.create(
        **{**build_request("", tools=[TOOL]), "messages": HISTORY[:1], "max_tokens": 1}
    )
    assert count_input_tokens(message) > count_input_tokens(without_result) + 20, (
        "the call and its result were not forwarded to the model"
    )


SCHEMA_FORMAT = {
    "format": {
        "type": "json_schema",
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    }
}
TOKEN_COUNT_REQUESTS: dict[str, dict[str, Any]] = {
    "text": build_request("The quick brown fox jumps over the lazy dog. " * 20),
    "special tokens as text": build_request("What does <|im_end|> mean?"),
    "other scripts": build_request(
        "\u4eba\u5de5\u667a\u80fd \u0411\u044b\u0441\u0442\u0440\u0430\u044f \U0001f30d"
    ),
    "system": build_request("Hello", system="You are a pirate."),
    "blocks": build_request(
        "",
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": text} for text in ("Hello", "you")],
            }
        ],
    ),
    "tools": build_request("What is the weather in Paris?", tools=[TOOL]),
    "tool result": build_request("", tools=[TOOL], messages=HISTORY),
    "format": build_request("Name a city.", output_config=SCHEMA_FORMAT),
}


@pytest.mark.parametrize("name", TOKEN_COUNT_REQUESTS)
def test_token_counts_equal_the_usage_of_the_response(
    client: anthropic.Anthropic, name: str
) -> None:
    """The response to the same request reports the same number of tokens."""
    request = TOKEN_COUNT_REQUESTS[name]
    count_request = {
        field: value
        for field, value in request.items()
        if field not in ("max_tokens", "extra_body")
    }
    counted = client.messages.count_tokens(**count_request).input_tokens
    assert counted == count_input_tokens(client.messages.create(**{**request, "max_tokens": 1}))


@pytest.mark.parametrize(
    "method", [token_counting._count_by_input_tokens, token_counting._count_by_template]
)
def test_every_counting_method_equals_the_usage(model: str, method: Any) -> None:
    """This server supports both methods (older ones only the second), but not the one of vLLM."""
    upstream = upstreams_from_settings(Settings(_env_file=None, UPSTREAM_BASE_URL=model))[0]
    body = to_chat_request(TOKEN_COUNT_REQUESTS["tool result"], Route(upstream, "m")).body

    async def count(method: Any) -> Any:
        async with httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as model_client:

            async def post(url: str, payload: dict[str, Any]) -> Any:
                return (await model_client.post(url, json=payload)).json()

            return await method(post, upstream, body)

    assert asyncio.run(count(token_counting._count_by_messages)) is None
    response = httpx.post(
        f"{model}/v1/chat/completions",
        json={**body, "max_tokens": 1},
        timeout=DEADLINE,
        trust_env=False,
    )
    assert asyncio.run(count(method)) == response.json()["usage"]["prompt_tokens"]


def test_a_disconnect_cancels_the_generation(client: anthropic.Anthropic, model: str) -> None:
    """The slots of the model are idle long before 900 tokens."""
    with client.messages.stream(
        **{**build_request("Write a very long story about the sea."), "max_tokens": 900}
    ) as stream:
        assert next(iter(stream.text_stream))
        assert any(busy_slots(model))
    for _ in range(DEADLINE * 10):
        if not any(busy_slots(model)):
            break
    else:
        pytest.fail("the model is still generating")
    message = client.messages.create(**build_request("Hello"))
    assert message.content


def busy_slots(model: str) -> list[bool]:
    return [
        slot["is_processing"]
        for slot in httpx.get(f"{model}/slots", timeout=DEADLINE, trust_env=False).json()
    ]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "complete"])
def test_a_context_overflow_is_reported_as_a_long_prompt(
    client: anthropic.Anthropic, streamed: bool
) -> None:
    with pytest.raises(
        anthropic.BadRequestError, match=rf"prompt is too long: \d+ tokens > {SLOT_TOKENS} maximum"
    ):
        client.messages.create(**build_request("word " * 3 * SLOT_TOKENS), stream=streamed)


def test_the_messages_api_is_passed_through(fresh_model: str) -> None:
    """llama.cpp implements the API, so its response is the same with and without the proxy."""
    request = {
        **build_request("What is the capital of France?"),
        "extra_body": {"temperature": 0, "cache_prompt": False},
    }
    texts = []
    with running_proxy(fresh_model, UPSTREAM_API="messages") as proxy:
        for base_url in (fresh_model, proxy):
            with anthropic.Anthropic(
                base_url=base_url, api_key="any", max_retries=2, timeout=DEADLINE
            ) as sdk:
                texts.append(join_text(sdk.messages.create(**request)))
                with sdk.messages.stream(**request) as stream:
                    texts.append(join_text(stream.get_final_message()))
                count_request = {
                    name: value
                    for name, value in request.items()
                    if name not in ("max_tokens", "extra_body")
                }
                texts.append(str(sdk.messages.count_tokens(**count_request).input_tokens))
    assert "Paris" in texts[0]
    assert texts[:3] == texts[3:]
