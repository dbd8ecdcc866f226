"""The official SDK -> proxy -> a native upstream: what comes out is what the upstream said."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    LAST_CHUNK,
    RESET,
    Script,
    ScriptedUpstream,
    answers,
    chunked,
)

ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
USAGE = {
    "input_tokens": 3,
    "output_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2,
}
MESSAGE: dict[str, Any] = {
    "id": "msg_theirs",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-1",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "EqQB"},
        {
            "type": "tool_use",
            "id": "toolu_theirs",
            "name": "get_weather",
            "input": {"city": "Paris"},
        },
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
SAID = {name: value for name, value in MESSAGE.items() if value is not None}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "EqQB"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {**MESSAGE["content"][1], "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '{"city": '},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '"Paris"}'},
    },
    {"type": "content_block_stop", "index": 1},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": USAGE,
    },
    {"type": "message_stop"},
]


def stream_of(events: list[dict[str, Any]], end: Any = LAST_CHUNK) -> Script:
    """A native stream; its events are named."""
    named: list[Any] = []
    for event in events:
        named += [b"event: " + event["type"].encode() + b"\n", event]
    return chunked(*named, end)


@pytest.fixture
def client(upstream: ScriptedUpstream) -> Iterator[anthropic.Anthropic]:
    with (
        running_proxy(
            upstream.url, UPSTREAM_API="messages", UPSTREAM_API_KEY_PASSTHROUGH=True
        ) as proxy,
        anthropic.Anthropic(
            base_url=proxy,
            api_key="sk-theirs",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as made,
    ):
        yield made


def test_a_message(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(MESSAGE))
    message = client.messages.create(**ASK)
    assert message.to_dict(exclude_none=True) == SAID
    sent = upstream.request()
    assert sent.body == ASK
    assert sent.headers["x-stainless-lang"] == "python"
    assert "sk-theirs" in (
        sent.headers.get("x-api-key"),
        sent.headers.get("authorization", "").removeprefix("Bearer "),
    )
    assert sent.headers["anthropic-version"]


def test_a_stream(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(stream_of(EVENTS))
    with client.messages.stream(**ASK) as stream:
        message = stream.get_final_message()
    assert message.to_dict(exclude_none=True) == SAID


def test_a_stream_that_breaks_off(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(stream_of(EVENTS[:5], RESET))
    with (
        client.messages.stream(**ASK) as stream,
        pytest.raises(anthropic.APIStatusError, match="closed the connection"),
    ):
        stream.get_final_message()


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "authentication_error", anthropic.AuthenticationError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (400, "invalid_request_error", anthropic.BadRequestError),
    ],
)
def test_errors(
    client: anthropic.Anthropic,
    upstream: ScriptedUpstream,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_theirs"}
    upstream.then(answers(body, status))
    with pytest.raises(error) as caught:
        client.messages.create(**ASK, stream=True)
    assert caught.value.body == body


def test_counts_and_models(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    dates = {"created_at": "2026-01-01T00:00:00Z", "lifecycle": "active"}
    model = {"type": "model", "id": "claude-x", "display_name": "Claude X", **dates}
    upstream.then(answers({"input_tokens": 7}), answers({"data": [model], "has_more": False}))
    asking = {name: value for name, value in ASK.items() if name != "max_tokens"}
    assert client.messages.count_tokens(**asking).input_tokens == 7
    assert [each.display_name for each in client.models.list()] == ["Claude X"]
