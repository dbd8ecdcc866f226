"""Checks of each real server through the proxy. Models this small write anything, so the checks are
about the protocol: roles and forms of messages, their ends, and their costs.
"""

import json
from typing import Any

import anthropic
import httpx
import pytest

from tests.upstreams.conftest import DEADLINE, Server

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
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAA"
    "AElFTkSuQmCC"
)
QUESTION = "What is the capital of France?"

# Sampling parameters exist in the API's older version only.
STEADY: dict[str, Any] = {
    "extra_body": {"temperature": 0},
    "extra_headers": {"anthropic-version": "2023-06-01"},
}

BOTH = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])


def answer(server: Server, text: str = QUESTION, *, streamed: bool = False, **more: Any) -> Any:
    """The server's answer, by the SDK."""
    ask = {
        "model": server.kind.model,
        "max_tokens": 24,
        "messages": [{"role": "user", "content": text}],
        **STEADY,
        **more,
    }
    if not streamed:
        return server.client.messages.create(**ask)
    with server.client.messages.stream(**ask) as stream:
        return stream.get_final_message()


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def tokens_in(message: Any) -> int:
    return int(message.usage.input_tokens + message.usage.cache_read_input_tokens)


@BOTH
def test_text(server: Server, *, streamed: bool) -> None:
    message = answer(server, streamed=streamed)
    assert text_of(message)
    assert "Paris" in text_of(message) or not server.kind.speaks
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert tokens_in(message) > 5
    assert 0 < message.usage.output_tokens <= 24


def test_a_stream_comes_in_pieces(server: Server) -> None:
    ask: Any = {
        "model": server.kind.model,
        "max_tokens": 24,
        "messages": [{"role": "user", "content": QUESTION}],
        **STEADY,
    }
    with server.client.messages.stream(**ask) as stream:
        pieces = list(stream.text_stream)
        assert len(pieces) > 1
        assert "".join(pieces) == text_of(stream.get_final_message())


def test_system_prompt(server: Server) -> None:
    told = answer(server, system="You are a pirate. You only ever answer with the word Arrr.")
    assert tokens_in(told) > tokens_in(answer(server))


def test_conversation(server: Server) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    message = answer(server, messages=messages)
    assert text_of(message)
    assert tokens_in(message) > tokens_in(answer(server, messages=messages[:1]))


@BOTH
def test_stop_sequence(server: Server, *, streamed: bool) -> None:
    """A piece of what it says anyway."""
    said = text_of(answer(server))
    piece = said[len(said) // 2 :][:3]
    message = answer(server, streamed=streamed, stop_sequences=["never said", piece])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", piece)
    assert text_of(message) == said.partition(piece)[0]


def test_max_tokens(server: Server) -> None:
    message = answer(server, "Tell me a long story.", max_tokens=5)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 5


def test_schema(server: Server) -> None:
    format_ = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = answer(server, "Name a city.", output_config=format_, max_tokens=60)
    if server.kind.schemas:
        assert json.loads(text_of(message))["city"] in ("Paris", "Rome")
    else:
        assert text_of(message)


def test_tools(server: Server) -> None:
    """Offered, they reach the model; whatever it makes of them has the right form."""
    offered = answer(server, HISTORY[0]["content"], tools=[TOOL])
    assert tokens_in(offered) > tokens_in(answer(server, HISTORY[0]["content"])) + 20
    calls = [block for block in offered.content if block.type == "tool_use"]
    assert (offered.stop_reason == "tool_use") == bool(calls)
    assert all(call.name == "get_weather" and isinstance(call.input, dict) for call in calls)


def test_tool_result(server: Server) -> None:
    """A call and its result, replayed, reach the model."""
    message = answer(server, messages=HISTORY, tools=[TOOL])
    without = answer(server, messages=HISTORY[:1], tools=[TOOL], max_tokens=1)
    assert tokens_in(message) > tokens_in(without) + 15


@BOTH
def test_unknown_model(server: Server, *, streamed: bool) -> None:
    if server.kind.knows_models:
        with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
            answer(server, model="no-such-model", streamed=streamed)
    else:
        assert text_of(answer(server, model="no-such-model", streamed=streamed))


def test_broken_tool(server: Server) -> None:
    broken = {
        **TOOL,
        "input_schema": {"type": "object", "properties": {"city": {"type": "nonsense"}}},
    }
    if server.kind.checks_tools:
        with pytest.raises(anthropic.BadRequestError, match="nonsense"):
            answer(server, tools=[broken])
    else:
        assert answer(server, tools=[broken]).content


@BOTH
def test_context_overflow(server: Server, *, streamed: bool) -> None:
    if server.kind.overflows:
        with pytest.raises(
            anthropic.BadRequestError,
            match=rf"prompt is too long: \d+ tokens > {server.kind.context} maximum",
        ):
            answer(server, "word " * 3 * server.kind.context, streamed=streamed)
    else:
        # Cut without a word: nobody but the server knows.
        assert answer(server, "word " * 3 * server.kind.context, streamed=streamed).content


@BOTH
def test_image(server: Server, *, streamed: bool) -> None:
    """To a model of texts."""
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    asked = [
        {"role": "user", "content": [{"type": "text", "text": "What is in the image?"}, image]}
    ]
    if server.kind.sees_nothing:
        with pytest.raises(anthropic.BadRequestError, match="Could not process image"):
            answer(server, messages=asked, streamed=streamed)
    else:
        assert answer(server, messages=asked, streamed=streamed).content


def test_count_tokens(server: Server) -> None:
    """The count of the response to the same request; an estimate when the server can't count."""
    ask: Any = {
        "model": server.kind.model,
        "messages": HISTORY,
        "tools": [TOOL],
        "system": "You are a pirate.",
    }
    counted = server.client.messages.count_tokens(**ask).input_tokens
    reported = tokens_in(answer(server, **ask, max_tokens=1))
    assert counted == reported if server.kind.counts else counted > 0


def test_cancel(server: Server) -> None:
    """A client that leaves in mid-stream frees the model, which has one or two places."""
    ask: Any = {
        "model": server.kind.model,
        "messages": [{"role": "user", "content": "Write a long story."}],
        **STEADY,
    }
    for _ in range(4):
        with server.client.messages.stream(max_tokens=server.kind.context // 2, **ask) as stream:
            assert next(iter(stream.text_stream))
    assert text_of(answer(server))


def test_own_messages_api(server: Server) -> None:
    """If it has one, the same question has the same answer there, word for word, for as many
    tokens.
    """
    if not server.kind.native:
        pytest.skip("it has none")
    ask = {
        "model": server.kind.model,
        "max_tokens": 24,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    body = {**ask, "temperature": 0, **server.kind.extra_body}
    native = httpx.post(
        f"{server.url}/v1/messages", json=body, timeout=DEADLINE, trust_env=False
    ).json()
    ours = answer(server)
    assert text_of(ours) == "".join(
        block["text"] for block in native["content"] if block["type"] == "text"
    )
    assert (ours.stop_reason, ours.usage.output_tokens) == (
        native["stop_reason"],
        native["usage"]["output_tokens"],
    )
    # Some count cached tokens within the input there, and some don't.
    assert tokens_in(ours) - native["usage"]["input_tokens"] in (
        0,
        native["usage"].get("cache_read_input_tokens", 0),
    )
