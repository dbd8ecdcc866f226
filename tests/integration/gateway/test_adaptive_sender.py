"""Refusals of the upstream: requests are adapted, and remembered. Rate limits reach the client."""

from typing import Any

import httpx
import pytest

from tests.support.messages_api import events_of, post
from tests.support.running_proxy import running_proxy
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


_PARTS = (
    "This endpoint's maximum context length is 40000 tokens. However, you requested about 45000 "
    "tokens (12000 of text input, 1000 of tool input, 32000 in the output)."
)


@pytest.mark.parametrize(
    "refused",
    [
        refusal(_PARTS),
        answers({"error": {"message": _PARTS, "code": 400}}),
        answers({"code": 400, "msg": _PARTS, "success": False}),
    ],
    ids=["status", "error", "success"],
)
def test_a_shorter_response_suffices(
    proxy: str, upstream: ScriptedUpstream, refused: Script
) -> None:
    upstream.then(refused, answers(completion("Hello")))
    assert post(proxy, REQUEST).json()["content"] == [{"type": "text", "text": "Hello"}]
    assert [upstream.request().body["max_tokens"] for _ in range(2)] == [32000, 27000]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "limited(RPM)"}},
            "application/json",
            (429, "rate_limit_error", "limited(RPM)"),
        ),
        (b"Too many requests", "text/plain", (429, "rate_limit_error", "Too many requests")),
        (
            {"error": {"message": "busy", "code": "server_overloaded"}},
            "text/event-stream",
            (529, "overloaded_error", "busy"),
        ),
        ({"detail": "worker died"}, "application/json", (500, "api_error", "worker died")),
    ],
    ids=["minimax", "text", "overload", "detail"],
)
def test_an_error_in_place_of_a_response(
    proxy: str,
    upstream: ScriptedUpstream,
    body: Any,
    kind: str,
    expected: tuple[int, str, str],
    *,
    stream: bool,
) -> None:
    upstream.then(answers(body, headers={"content-type": kind}))
    response = post(proxy, {**REQUEST, "stream": stream})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["message"]) == expected


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


STREAM_ONLY = refusal(
    "This model only support stream mode, please enable the stream parameter to access the model. "
)
STREAM_REFUSED = refusal("Your organization must be verified to stream this model.", param="stream")


def test_a_model_that_only_streams(proxy: str, upstream: ScriptedUpstream) -> None:
    chunks = [*text_chunks("Hello")[:-1], {"choices": [], "usage": USAGE}]
    upstream.then(STREAM_ONLY, streams(chunks), streams(chunks))
    for _ in range(2):
        message = post(proxy, REQUEST).json()
        assert message["content"] == [{"type": "text", "text": "Hello"}]
        assert message["usage"]["output_tokens"] == 5
    sent = [upstream.request().body for _ in range(3)]
    assert ["stream" in body for body in sent] == [False, True, True]
    assert sent[1]["stream_options"] == {"include_usage": True}


USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def test_a_model_that_only_streams_without_stream_options(upstream: ScriptedUpstream) -> None:
    upstream.then(STREAM_ONLY, streams(text_chunks("Hello")), streams(text_chunks("Hello")))
    with running_proxy(upstream.url, UPSTREAM_PROVIDER="mistral") as mistral:
        for _ in range(2):
            content = post(mistral, REQUEST).json()["content"]
            assert content == [{"type": "text", "text": "Hello"}]
    sent = [upstream.request().body for _ in range(3)]
    assert [("stream" in body, "stream_options" in body) for body in sent] == [
        (False, False),
        (True, False),
        (True, False),
    ]


def test_refused_stream_options_do_not_turn_streaming_off(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    refused = refusal("This model does not support stream options", param="stream_options")
    upstream.then(refused, streams(text_chunks("Hello")))
    events = events_of(post(proxy, {**REQUEST, "stream": True}).text)
    assert events[-1]["type"] == "message_stop"
    sent = [upstream.request().body for _ in range(2)]
    assert [(body["stream"], "stream_options" in body) for body in sent] == [
        (True, True),
        (True, False),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_in_brackets_instead_of_a_response(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    upstream.then(answers(b"[error] upstream timed out"))
    response = post(proxy, {**REQUEST, "stream": stream})
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "[error] upstream timed out"


@pytest.mark.parametrize("fields", [{"stream": True}, {"stop_sequences": ["X"]}])
def test_a_model_that_does_not_stream(
    proxy: str, upstream: ScriptedUpstream, fields: dict[str, Any]
) -> None:
    whole = {**completion("Hello"), "usage": USAGE}
    upstream.then(STREAM_REFUSED, answers(whole), answers(whole))
    for _ in range(2):
        response = post(proxy, {**REQUEST, **fields})
        if "stream" in fields:
            events = events_of(response.text)
            assert [event["type"] for event in events if event["type"] != "ping"] == [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
            assert events[-2]["usage"]["output_tokens"] == 5
        else:
            assert response.json()["content"] == [{"type": "text", "text": "Hello"}]
    sent = [upstream.request().body for _ in range(3)]
    assert ["stream" in body for body in sent] == [True, False, False]
    assert "stream_options" not in sent[1]


def test_a_stop_sequence_of_a_model_that_does_not_stream(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(STREAM_REFUSED, answers(completion("Hello X world")))
    message = post(proxy, {**REQUEST, "stop_sequences": ["X"]}).json()
    assert message["content"] == [{"type": "text", "text": "Hello "}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "X")


def test_a_model_that_neither_streams_nor_does_not(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(STREAM_ONLY, STREAM_REFUSED)
    response = post(proxy, REQUEST)
    assert response.status_code == 400
    assert "verified to stream" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_that_uses_all_tokens(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    upstream.then(
        refusal(
            "Could not finish the message because max_tokens or model output limit was reached. "
            "Please try again with higher max_tokens."
        )
    )
    response = post(proxy, {**REQUEST, "max_tokens": 1, "stream": stream})
    assert response.status_code == 200
    ended = events_of(response.text)[-2]["delta"] if stream else response.json()
    assert ended["stop_reason"] == "max_tokens"


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}}


def bad_tool(name: str) -> Any:
    return refusal(
        f"Invalid schema for function '{name}': schema is too complex",
        code="invalid_function_parameters",
    )


def test_a_refused_tool_is_left_out(proxy: str, upstream: ScriptedUpstream) -> None:
    bad = [f"bad{number}" for number in range(10)]
    request = {**REQUEST, "tools": [tool(name) for name in ["good", *bad]]}
    upstream.then(*[bad_tool(name) for name in bad], *[answers(completion())] * 3)
    for _ in range(2):
        response = post(proxy, request)
        assert response.status_code == 200
        assert response.headers["anthropic-proxy-unavailable-tools"] == ", ".join(bad)
    # The next client may have another tool with this name.
    other = {**tool("bad1"), "description": "Another tool"}
    assert post(proxy, {**REQUEST, "tools": [other]}).status_code == 200
    sent = [upstream.request().body for _ in range(13)]
    names = [[each["function"]["name"] for each in body["tools"]] for body in sent[10:]]
    assert names == [["good"], ["good"], ["bad1"]]
    assert "bad9" in sent[11]["messages"][0]["content"]


def test_names_that_begin_with_a_digit_come_back(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()))
    post(proxy, {**REQUEST, "tools": [tool("21st_builder")]})
    name = upstream.request().body["tools"][0]["function"]["name"]
    assert name.startswith("tool_21st_builder_")
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
    called = completion(None, finish_reason="tool_calls")
    called["choices"][0]["message"]["tool_calls"] = [call]
    upstream.then(answers(called))
    block = post(proxy, {**REQUEST, "tools": [tool("21st_builder")]}).json()["content"][0]
    assert block["name"] == "21st_builder"


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
