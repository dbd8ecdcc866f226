"""Refusals of the upstream: requests are adapted, and remembered. Rate limits reach the client."""

from typing import Any

import httpx
import pytest

from tests.support.messages_api import events_of, post
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 32000,
    "messages": [{"role": "user", "content": "Hi"}],
}
THINKING = {**REQUEST, "thinking": {"type": "enabled", "budget_tokens": 2000}, "temperature": 0.5}


def refusal(text: str, **fields: Any) -> Any:
    return answers({"error": {"message": text, "type": "invalid_request_error", **fields}}, 400)


NO_EFFORT = refusal("Unrecognized request argument supplied: reasoning_effort")
NO_TEMPERATURE = refusal(
    "Unsupported parameter: 'temperature' is not supported with this model.", param="temperature"
)
TOO_LARGE = refusal(
    "max_tokens is too large: 32000. This model supports at most 16384 completion tokens"
)
OVERFLOW = refusal(
    "This model's maximum context length is 8192 tokens. However, you requested 34000 tokens "
    "(2000 in the messages, 32000 in the completion)."
)


def test_a_refused_field_is_left_out_and_stays_out(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(
        NO_EFFORT, NO_TEMPERATURE, answers(completion("Hello")), answers(completion("Hello"))
    )
    assert post(proxy, THINKING).json()["content"] == [{"type": "text", "text": "Hello"}]
    assert post(proxy, THINKING).status_code == 200
    sent = [upstream.request().body for _ in range(4)]
    assert [("reasoning_effort" in each, "temperature" in each) for each in sent] == [
        (True, True),
        (False, True),
        (False, False),
        (False, False),
    ]


def test_each_model_is_its_own(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(NO_EFFORT, answers(completion()), answers(completion()))
    post(proxy, THINKING)
    post(proxy, {**THINKING, "model": "other"})
    assert "reasoning_effort" in [upstream.request().body for _ in range(3)][2]


def test_a_stream_too(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(TOO_LARGE, streams(text_chunks("Hello")))
    events = events_of(post(proxy, {**REQUEST, "stream": True}).text)
    assert events[-1]["type"] == "message_stop"
    assert [upstream.request().body["max_tokens"] for _ in range(2)] == [32000, 16384]


def test_a_change_that_does_not_help_is_not_remembered(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(NO_TEMPERATURE, refusal("roles must alternate"), answers(completion()))
    response = post(proxy, THINKING)
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "roles must alternate",
    )
    post(proxy, THINKING)
    assert "temperature" in [upstream.request().body for _ in range(3)][2]


def test_the_same_refusal_again_is_told(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(TOO_LARGE, TOO_LARGE)
    response = post(proxy, REQUEST)
    assert response.status_code == 400
    assert "at most 16384" in response.json()["error"]["message"]


def test_the_answer_gets_what_room_there_is(proxy: str, upstream: ScriptedUpstream) -> None:
    """At first by the refusal's figures, and from then on by what was learned of the context."""
    upstream.then(OVERFLOW, answers(completion()), answers(completion()))
    assert post(proxy, REQUEST).status_code == 200
    assert post(proxy, REQUEST).status_code == 200
    first, second, third = (upstream.request().body["max_tokens"] for _ in range(3))
    assert (first, second) == (32000, 6192)
    assert 7500 < third < 8192


def test_a_context_that_has_grown(proxy: str, upstream: ScriptedUpstream) -> None:
    """As after a restart of the upstream: a prompt beyond the known context succeeds."""
    long = {
        **completion(),
        "usage": {"prompt_tokens": 9000, "completion_tokens": 5, "total_tokens": 9005},
    }
    upstream.then(OVERFLOW, answers(completion()), answers(long), answers(completion()))
    for _ in range(3):
        post(proxy, REQUEST)
    assert [upstream.request().body["max_tokens"] for _ in range(4)][3] == 32000


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_context_is_not_a_full_answer(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    usage = {"prompt_tokens": 8000, "completion_tokens": 192, "total_tokens": 8192}
    full = {**completion("Hel", finish_reason="length"), "usage": usage}
    chunks = [*text_chunks("Hel", finish="length")[:-1], {"choices": [], "usage": usage}]
    upstream.then(OVERFLOW, answers(completion()), streams(chunks) if stream else answers(full))
    post(proxy, REQUEST)
    response = post(proxy, {**REQUEST, "stream": stream})
    ended = events_of(response.text)[-2]["delta"] if stream else response.json()
    assert ended["stop_reason"] == "model_context_window_exceeded"


@pytest.mark.parametrize(
    "code",
    [{"code": 400}, {"type": "invalid_request_error"}, {"type": "BadRequestError", "code": None}],
)
@pytest.mark.parametrize(
    ("request_fields", "answer"),
    [
        ({"stream": True}, streams(text_chunks("Hello"))),
        ({"stop_sequences": ["x"]}, streams(text_chunks("Hello"))),
        ({}, answers(completion("Hello"))),
    ],
    ids=["stream", "collected", "whole"],
)
def test_a_refusal_within_an_answer(
    proxy: str, upstream: ScriptedUpstream, request_fields: Any, answer: Script, code: Any
) -> None:
    """Some servers and gateways have answered 200 when they find out that they can't."""
    error = {
        "error": {"message": "Unrecognized request argument supplied: reasoning_effort", **code}
    }
    is_stream = answer.head != answers({}).head and b"event-stream" in (answer.head or b"")
    refused = streams([error], done=False) if is_stream else answers(error)
    upstream.then(refused, answer, answer)
    for _ in range(2):
        response = post(proxy, {**THINKING, **request_fields})
        assert response.status_code == 200
        assert "Hello" in response.text
    sent = [upstream.request().body for _ in range(3)]
    assert ["reasoning_effort" in each for each in sent] == [True, False, False]


def test_what_can_not_be_mended_within_an_answer_has_its_status(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(
        streams([{"error": {"message": "roles must alternate", "type": "invalid_request_error"}}])
    )
    response = post(proxy, {**REQUEST, "stream": True})
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "roles must alternate",
    )


def test_a_refusal_after_the_first_words_is_told(proxy: str, upstream: ScriptedUpstream) -> None:
    error = {"error": {"message": "temperature is not supported", "code": 400}}
    pause = Pause()
    upstream.then(streams([*text_chunks("Hello")[:1], pause, error]))
    asked = {**THINKING, "stream": True}
    with httpx.stream(
        "POST", f"{proxy}/v1/messages", json=asked, timeout=DEADLINE, trust_env=False
    ) as response:
        pause.go.set()
        events = events_of(response.read().decode())
    assert events[-1]["error"]["message"] == "temperature is not supported"


def test_too_many_tools(proxy: str, upstream: ScriptedUpstream) -> None:
    """Model and client learn which ones are missing, by their own names, also in later requests."""
    refused = refusal(
        "Invalid 'tools': array too long. Expected an array with maximum length 2, "
        "but got an array with length 3 instead."
    )
    names = ["a", "b", "c.d"]
    tools: list[Any] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
    tools.append({"type": "web_search_20250305", "name": "web_search"})
    upstream.then(refused, answers(completion()), streams(text_chunks("Hello")))
    for stream in (False, True):
        response = post(proxy, {**REQUEST, "tools": tools, "stream": stream})
        assert response.headers["anthropic-proxy-unavailable-tools"] == "web_search, c.d"
    _, second, third = (upstream.request().body for _ in range(3))
    for sent in (second, third):
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["a", "b"]
        assert "not available in this session: c_d_" in sent["messages"][0]["content"]


def test_rate_limits(proxy: str, upstream: ScriptedUpstream) -> None:
    limits = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "9"}
    late = {**limits, "retry-after": "7"}
    upstream.then(
        answers(completion(), headers=limits),
        answers({"error": {"message": "slow down"}}, 429, late),
    )
    good, bad = post(proxy, REQUEST), post(proxy, REQUEST)
    assert (good.status_code, bad.status_code, bad.headers["retry-after"]) == (200, 429, "7")
    for response in (good, bad):
        assert response.headers["anthropic-ratelimit-requests-limit"] == "10"
        assert response.headers["anthropic-ratelimit-requests-remaining"] == "9"


def test_rate_limits_of_a_stream(proxy: str, upstream: ScriptedUpstream) -> None:
    script = streams(text_chunks("Hello"))
    assert script.head is not None
    script.head = script.head.replace(b"\r\n\r\n", b"\r\nx-ratelimit-limit-requests: 10\r\n\r\n")
    upstream.then(script)
    response = httpx.post(
        f"{proxy}/v1/messages", json={**REQUEST, "stream": True}, timeout=DEADLINE, trust_env=False
    )
    assert response.headers["anthropic-ratelimit-requests-limit"] == "10"


@pytest.mark.parametrize("answer", ["Hm\n</think>\n\nYes", "Yes"])
def test_reasoning_that_a_template_opens(
    proxy: str, upstream: ScriptedUpstream, answer: str
) -> None:
    """The first stream has only the closing tag; later responses are right, with or without it."""
    upstream.then(
        streams(text_chunks("Hm\n", "</think>\n\n", "Yes")), streams(text_chunks(*answer))
    )
    request = {**REQUEST, "thinking": {"type": "adaptive"}, "stream": True}
    post(proxy, request)
    events = events_of(post(proxy, request).text)
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == answer.partition("</think>")[0]
    assert "".join(delta.get("text", "") for delta in deltas) == "Yes"


def test_a_template_that_opens_reasoning_does_not_where_it_is_forbidden(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    """Claude Code mixes short requests without thinking among others, often to one model."""
    opened, plain = (
        streams(text_chunks("Hm\n</think>\n\n", "Yes")),
        streams(text_chunks("A ", "title")),
    )
    upstream.then(opened, plain, streams(text_chunks("Hm\n</think>\n\n", "Yes")))
    request = {**REQUEST, "stream": True}
    thinking = {**request, "thinking": {"type": "adaptive"}}
    post(proxy, thinking)
    forbidden = events_of(post(proxy, {**request, "thinking": {"type": "disabled"}}).text)
    texts = [
        event["delta"]["text"] for event in forbidden if event["type"] == "content_block_delta"
    ]
    assert texts == ["A ", "title"]
    again = events_of(post(proxy, thinking).text)
    assert [
        event["content_block"]["type"] for event in again if event["type"] == "content_block_start"
    ] == [
        "thinking",
        "text",
    ]


def _call(call_id: str) -> dict[str, Any]:
    function = {"name": "Bash", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_models_own_ids_of_calls_return(
    proxy: str, upstream: ScriptedUpstream, *, is_stream: bool
) -> None:
    model = f"kimi-{is_stream}"
    request = {**REQUEST, "model": model, "stream": is_stream}
    if is_stream:
        deltas = [
            {"tool_calls": [{"index": 0, **_call("functions.Bash:0")}]},
            {"content": None},
        ]
        chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        upstream.then(streams(chunks))
        events = events_of(post(proxy, request).text)
        starts = [event for event in events if event["type"] == "content_block_start"]
        block = {**starts[0]["content_block"], "input": {}}
    else:
        calls = [_call("functions.Bash:0")]
        upstream.then(
            answers(completion(None, message={"tool_calls": calls}, finish_reason="tool_calls"))
        )
        block = post(proxy, request).json()["content"][0]
    upstream.request()
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
    history = [
        *request["messages"],
        {"role": "assistant", "content": [block]},
        {"role": "user", "content": [result]},
    ]
    other_call = {**block, "id": "toolu_of_another_model"}
    other_result = {**result, "tool_use_id": "toolu_of_another_model"}
    other_history = [
        *request["messages"],
        {"role": "assistant", "content": [other_call]},
        {"role": "user", "content": [other_result]},
    ]
    for messages in (history, other_history):
        upstream.then(answers(completion("Hello")))
        assert post(proxy, {**REQUEST, "model": model, "messages": messages}).status_code == 200
        _, assistant, tool = upstream.request().body["messages"]
        assert assistant["tool_calls"] == [_call("functions.Bash:0")]
        assert tool["tool_call_id"] == "functions.Bash:0"
