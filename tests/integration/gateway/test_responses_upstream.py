"""An upstream that speaks the Responses API, by configuration or by its refusals."""

from typing import Any

import pytest

from tests.support.messages_api import events_of, post
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
THINKING = {
    **REQUEST,
    "max_tokens": 4000,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "tools": [TOOL],
}

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I look it up."}],
    "encrypted_content": "c2VjcmV0",
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
    "status": "completed",
}
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 29,
}
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [REASONING, CALL],
    "usage": USAGE,
}

WANTS_RESPONSES = (
    "Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions. "
    "Please use /v1/responses instead."
)


def refusal(text: str, status: int = 400) -> Any:
    return answers(
        {"error": {"message": text, "type": "invalid_request_error", "param": "reasoning_effort"}},
        status,
    )


def streamed() -> Any:
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate((REASONING, CALL))
    ]
    return streams([*done, {"type": "response.completed", "response": ANSWER}], done=False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_there_and_back_again(upstream: ScriptedUpstream, stream: bool) -> None:
    """The reasoning comes back with the next turn, before the call that it led to."""
    upstream.then(streamed() if stream else answers(ANSWER), answers(ANSWER))
    with running_proxy(upstream.url, UPSTREAM_API="responses") as proxy:
        response = post(proxy, {**THINKING, "stream": stream})
        content = content_of(response.text) if stream else response.json()["content"]
        assert [block["type"] for block in content] == ["thinking", "tool_use"]
        assert (content[0]["thinking"], content[1]["input"]) == ("I look it up.", {"city": "Oslo"})
        result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "Sunny"}
        following = [
            *REQUEST["messages"],
            {"role": "assistant", "content": content},
            {"role": "user", "content": [result]},
        ]
        assert post(proxy, {**THINKING, "messages": following}).status_code == 200
    first, second = upstream.request(), upstream.request()
    assert first.path == second.path == "/v1/responses"
    assert (first.body["reasoning"], first.body["store"]) == (
        {"summary": "auto", "effort": "low"},
        False,
    )
    kinds = [item["type"] for item in second.body["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert second.body["input"][1] == REASONING
    assert (
        second.body["input"][2]["call_id"] == second.body["input"][3]["call_id"] == content[1]["id"]
    )


def content_of(text: str) -> list[dict[str, Any]]:
    """The content blocks of a stream."""
    import json

    blocks: list[dict[str, Any]] = []
    for event in events_of(text):
        if event["type"] == "content_block_start":
            blocks.append({**event["content_block"]})
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            name = delta["type"].removesuffix("_delta")
            key = "partial_json" if name == "input_json" else name
            blocks[-1][key] = blocks[-1].get(key, "") + delta[key]
    for block in blocks:
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json"))
    return blocks


def test_usage(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(ANSWER))
    with running_proxy(upstream.url, UPSTREAM_API="responses") as proxy:
        usage = post(proxy, THINKING).json()["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (
        15,
        5,
        9,
    )


def test_the_upstream_says_so(upstream: ScriptedUpstream) -> None:
    """And it is remembered for the model."""
    upstream.then(refusal(WANTS_RESPONSES), answers(ANSWER), answers(ANSWER))
    with running_proxy(upstream.url) as proxy:
        for _ in range(2):
            assert post(proxy, THINKING).json()["stop_reason"] == "tool_use"
    assert [upstream.request().path for _ in range(3)] == [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/responses",
    ]


def test_an_upstream_that_does_not_have_it(upstream: ScriptedUpstream) -> None:
    """The model is asked without thinking then, as the refusal allows it."""
    words = WANTS_RESPONSES.replace("instead.", "or set reasoning_effort to 'none'.")
    upstream.then(
        refusal(words),
        answers(b"404 page not found", 404),
        refusal(words),
        answers(completion("Hello")),
    )
    with running_proxy(upstream.url, UPSTREAM_PROVIDER="openai") as proxy:
        assert post(proxy, THINKING).json()["content"] == [{"type": "text", "text": "Hello"}]
    paths = [upstream.request() for _ in range(4)]
    assert [each.path.removeprefix("/v1") for each in paths] == [
        "/chat/completions",
        "/responses",
        "/chat/completions",
        "/chat/completions",
    ]
    assert paths[3].body["reasoning_effort"] == "none"


def test_a_broken_stream_is_no_answer(upstream: ScriptedUpstream) -> None:
    delta = {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hel",
    }
    upstream.then(streams([delta]))
    with running_proxy(upstream.url, UPSTREAM_API="responses") as proxy:
        response = post(proxy, {**REQUEST, "stream": True})
    told = response.json() if response.status_code == 500 else events_of(response.text)[-1]
    assert told["type"] == "error"


def test_other_models_are_asked_as_before(upstream: ScriptedUpstream) -> None:
    upstream.then(refusal(WANTS_RESPONSES), answers(ANSWER), streams(text_chunks("Hello")))
    with running_proxy(upstream.url) as proxy:
        post(proxy, THINKING)
        post(proxy, {**REQUEST, "model": "other", "stream": True})
    assert [upstream.request().path for _ in range(3)][2] == "/v1/chat/completions"


def detail(text: str) -> Any:
    return answers({"detail": text}, 400)


def test_a_server_that_refuses_parts_of_the_form(upstream: ScriptedUpstream) -> None:
    """The ChatGPT backend of Codex: each refusal is remembered for the next request."""
    text = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    end = {"type": "response.done", "response": {**ANSWER, "output": [text]}}
    upstream.then(
        detail("Stream must be set to true"),
        detail("Instructions are required"),
        detail("Unsupported parameter: max_output_tokens"),
        detail("Unsupported parameter: store"),
        answers({"error": {"message": "Unknown parameter: 'tools[0].strict'."}}, 400),
        streams([end], done=False),
        streams([end], done=False),
    )
    request = {**REQUEST, "system": "Be brief.", "tools": [TOOL]}
    with running_proxy(upstream.url, UPSTREAM_API="responses", MAX_UPSTREAM_REQUESTS="8") as proxy:
        for _ in range(2):
            response = post(proxy, request)
            assert response.status_code == 200, response.text
            assert response.json()["content"] == [{"type": "text", "text": "Hello"}]
    sent = [upstream.request().body for _ in range(7)]
    assert sent[5] == sent[6]
    assert sent[6] == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "name": "weather", "parameters": TOOL["input_schema"]}],
        "stream": True,
        "instructions": "Be brief.",
    }


@pytest.mark.parametrize(
    "refused",
    [
        {"message": "Item with id 'rs_1' not found."},
        {"message": "Invalid value: 'reasoning'.", "param": "input[1].type"},
        {"message": "Invalid 'input[1].encrypted_content': string too long."},
    ],
)
def test_replayed_reasoning_that_is_refused(
    upstream: ScriptedUpstream, refused: dict[str, Any]
) -> None:
    upstream.then(answers(ANSWER), answers({"error": refused}, 400), answers(ANSWER))
    with running_proxy(upstream.url, UPSTREAM_API="responses") as proxy:
        content = post(proxy, THINKING).json()["content"]
        result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "Sunny"}
        following = [
            *REQUEST["messages"],
            {"role": "assistant", "content": content},
            {"role": "user", "content": [result]},
        ]
        assert post(proxy, {**THINKING, "messages": following}).status_code == 200
    kinds = []
    for _ in range(3):
        kinds.append([item["type"] for item in upstream.request().body["input"]])
    assert kinds == [
        ["message"],
        ["message", "reasoning", "function_call", "function_call_output"],
        ["message", "function_call", "function_call_output"],
    ]


def test_counting_uses_the_changes_that_a_model_needs(upstream: ScriptedUpstream) -> None:
    upstream.then(
        answers({"error": {"message": "Unknown parameter: 'tools[0].strict'."}}, 400),
        answers(ANSWER),
        answers({"object": "response.input_tokens", "input_tokens": 42}),
    )
    with running_proxy(upstream.url, UPSTREAM_API="responses", UPSTREAM_PROVIDER="openai") as proxy:
        request = {**REQUEST, "tools": [TOOL]}
        assert post(proxy, request).status_code == 200
        counted = post(proxy, request, path="/v1/messages/count_tokens")
    assert counted.json() == {"input_tokens": 42}
    sent = [upstream.request() for _ in range(3)]
    assert sent[2].path == "/v1/responses/input_tokens"
    assert sent[2].body == {name: sent[1].body[name] for name in ("model", "input", "tools")}
