"""The Messages API over a real socket, with a scripted upstream."""

import json
import socket
from typing import Any

import httpx
import pytest

from anthropic_proxy.gateway.streams import base, deferred
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.tool_names import to_upstream_name
from tests.support import grammar
from tests.support.messages_api import REQUEST, STREAM, events_of, post
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    LAST_CHUNK,
    RESET,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
    streams,
    text_chunks,
)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true", "/v1/v1/messages"])
def test_a_message_is_translated(proxy: str, upstream: ScriptedUpstream, path: str) -> None:
    upstream.then(answers(completion("Hello")))
    response = post(
        proxy, REQUEST, path, headers={"x-api-key": "client-key", "anthropic-version": "2023-06-01"}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    message = response.json()
    assert message["content"] == [{"type": "text", "text": "Hello"}]
    assert message["model"] == "claude-test"
    assert message["id"].startswith("msg_")
    sent = upstream.request()
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.body == {
        "model": "claude-test",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 100,
    }
    assert "client-key" not in str(sent.headers), "the client key was forwarded"
    assert "authorization" not in sent.headers


def test_a_stream_is_translated(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(streams(text_chunks("Hel", "lo")))
    response = post(proxy, STREAM)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    events = events_of(response.text)
    grammar.check(events)
    assert [
        event["delta"]["text"] for event in events if event["type"] == "content_block_delta"
    ] == ["Hel", "lo"]
    assert events[-2]["usage"] == {
        "input_tokens": 11,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 2,
    }
    sent = upstream.request().body
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


def test_ids_are_unique(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers(completion()) for _ in range(3)])
    responses = [post(proxy, REQUEST) for _ in range(3)]
    assert len({response.json()["id"] for response in responses}) == 3
    assert len({response.headers["request-id"] for response in responses}) == 3


@pytest.mark.parametrize(
    ("thinking", "model"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "deep"),
        ({"type": "adaptive"}, "deep"),
        ({"type": "disabled"}, "quick"),
        ({"type": "between_tools"}, "quick"),
        (None, "quick"),
    ],
)
def test_thinking_selects_the_model(upstream: ScriptedUpstream, thinking: Any, model: str) -> None:
    upstream.then(answers(completion()))
    with running_proxy(
        upstream.url + "/v1", REASONING_MODEL="deep", COMPLETION_MODEL="quick"
    ) as proxy:
        assert post(proxy, {**REQUEST, "thinking": thinking}).json()["model"] == "claude-test"
    assert upstream.request().body["model"] == model


def test_the_upstream_key_is_sent(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()))
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret") as proxy:
        post(proxy, REQUEST)
    assert upstream.request().headers["authorization"] == "Bearer sk-secret"


def test_chunks_are_forwarded_immediately(proxy: str, upstream: ScriptedUpstream) -> None:
    """Each chunk reaches the client before the upstream sends the next one."""
    first, *rest = text_chunks("one", "two")
    pause = Pause()
    upstream.then(streams([first, pause, *rest]))
    with httpx.stream(
        "POST", proxy + "/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        received = ""
        for text in response.iter_text():
            received += text
            if '"one"' in received:
                break
        assert '"two"' not in received
        pause.go.set()


@pytest.mark.parametrize(
    "phase", ["in stream", "before the first token", "without stream", "with stop sequences"]
)
def test_a_disconnect_closes_the_upstream_request(
    proxy: str, upstream: ScriptedUpstream, phase: str
) -> None:
    pause = Pause()
    first, *_ = text_chunks("one")
    head = streams([]).head
    scripts = {
        "in stream": (Script(head, [*streams([first], done=False).steps, pause]), STREAM),
        "before the first token": (Script(head, [pause]), STREAM),
        "without stream": (Script(None, [pause]), REQUEST),
        "with stop sequences": (Script(head, [pause]), {**REQUEST, "stop_sequences": ["x"]}),
    }
    script, body = scripts[phase]
    upstream.then(script)
    raw = json.dumps(body).encode()
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as client:
        head_bytes = (
            f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
        )
        client.sendall(head_bytes + raw)
        received = upstream.request()
        assert pause.reached.wait(DEADLINE)
        if phase == "in stream":
            while b'"one"' not in client.recv(65536):
                pass
        assert not received.gone.is_set()
    assert received.gone.wait(DEADLINE), "the upstream request was not closed"
    pause.go.set()


@pytest.mark.parametrize("stream", [True, False])
def test_an_immediate_disconnect_closes_the_upstream_request(
    proxy: str, upstream: ScriptedUpstream, stream: bool
) -> None:
    """The server receives the disconnect together with the end of the request."""
    raw = json.dumps({**REQUEST, "stream": stream}).encode()
    host, port = proxy.removeprefix("http://").split(":")
    pauses = [Pause() for _ in range(20)]
    upstream.then(*[Script(streams([]).head, [pause]) for pause in pauses])
    for _ in pauses:
        with socket.create_connection((host, int(port)), DEADLINE) as client:
            client.sendall(
                b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(raw), raw)
            )
    assert httpx.get(proxy + "/health", trust_env=False).text == "OK"
    assert all(received.gone.wait(DEADLINE) for received in upstream.requests), (
        "an upstream request was not closed"
    )


def test_an_unexpected_exception_ends_the_stream_with_an_error(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause()
    first, *rest = text_chunks("one")
    upstream.then(streams([first, pause, *rest]))
    close = StreamTranslator.close

    def raise_error(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(StreamTranslator, "close", raise_error)
    received, _ = read_and_release(proxy, pause)
    monkeypatch.setattr(StreamTranslator, "close", close)
    assert events_of(received)[-1]["error"] == {
        "type": "api_error",
        "message": "Internal server error",
    }


def test_pings_are_sent_during_hidden_reasoning(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0.01)
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0.01)
    pause = Pause()
    upstream.then(
        streams([b": PROCESSING\n\n", *reasoning_chunks("Hm", "Hm"), pause, *text_chunks("one")])
    )
    events = events_of(read_until(proxy, "event: ping", 2, pause))
    grammar.check(events)
    assert [event["type"] for event in events[:3]] == ["message_start", "ping", "ping"]
    assert "Hm" not in str(events)


def test_pings_are_sent_while_the_upstream_sends_no_visible_content(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream sends reasoning that the client does not receive."""
    monkeypatch.setattr(base, "SILENCE_SECONDS", 0.01)
    first, *rest = text_chunks("one")
    pause = Pause()
    upstream.then(streams([first, *reasoning_chunks("Hm"), pause, *rest]))
    events = events_of(read_until(proxy, "event: ping", 4, pause))
    grammar.check(events)
    assert events[-1]["type"] == "message_stop"


def reasoning_chunks(*texts: str) -> list[dict[str, Any]]:
    return [{"choices": [{"index": 0, "delta": {"reasoning_content": text}}]} for text in texts]


def read_until(proxy: str, text_to_count: str, count: int, pause: Pause) -> str:
    """Return a complete stream; `pause` ends after `text_to_count` was received `count` times."""
    received = ""
    with httpx.stream(
        "POST", proxy + "/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        assert response.status_code == 200
        for part in response.iter_text():
            received += part
            if received.count(text_to_count) >= count:
                pause.go.set()
    return received


def test_a_stop_sequence_closes_the_upstream_request(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    for stream in (True, False):
        pause = Pause()
        chunks = text_chunks("one ST", "OP two")[:2]
        upstream.then(streams([*chunks, pause], done=False))
        response = post(proxy, {**REQUEST, "stop_sequences": ["STOP"], "stream": stream})
        received = upstream.request()
        assert received.gone.wait(DEADLINE)
        pause.go.set()
        message = events_of(response.text)[-2]["delta"] if stream else response.json()
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "STOP")
        assert "stop" not in received.body
    assert message["content"] == [{"type": "text", "text": "one "}]


@pytest.mark.parametrize("stop_sequences", [[], ["STOP"]])
def test_data_after_the_end_is_ignored(
    proxy: str, upstream: ScriptedUpstream, stop_sequences: list[str]
) -> None:
    """The invalid data arrives in one read with the end, and causes no error event."""
    steps = [*streams(text_chunks("one STOP")).steps, b"data: {broken\n\n"]
    upstream.then(streams([b"".join(steps)], done=False))
    events = events_of(post(proxy, {**STREAM, "stop_sequences": stop_sequences}).text)
    grammar.check(events)
    assert events[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [True, False])
def test_a_large_response_is_returned(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    upstream_response = completion()
    upstream_response["choices"][0]["message"]["content"] = text = "<tool_call>" * 10_000
    upstream.then(answers(upstream_response))
    response = post(proxy, {**REQUEST, "stream": stream})
    assert response.status_code == 200
    if stream:
        assert (
            "".join(
                event["delta"].get("text", "")
                for event in events_of(response.text)
                if "delta" in event
            )
            == text
        )
    else:
        assert response.json()["content"] == [{"type": "text", "text": text}]


def test_a_stop_sequence_without_a_match_changes_nothing(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(streams(text_chunks("one ", "two")))
    message = post(proxy, {**REQUEST, "stop_sequences": ["STOP"]}).json()
    assert message["content"] == [{"type": "text", "text": "one two"}]
    assert (message["stop_reason"], message["usage"]["input_tokens"]) == ("end_turn", 11)


def test_an_upstream_failure_in_the_stream_is_reported(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    first, *_ = text_chunks("one")
    pause = Pause()
    for script, message in [
        (streams([first, pause], done=False), "ended the response before it was complete"),
        (
            streams([first, pause, b'data: {"choices": [{"del'], done=False),
            "sent an invalid chunk",
        ),
        (streams([first, pause, {"error": {"message": "out of memory"}}]), "out of memory"),
        (chunked(first, pause, RESET), "closed the connection before the response was complete"),
    ]:
        pause.go.clear()
        upstream.then(script)
        received, request_id = read_and_release(proxy, pause)
        events = events_of(received)
        grammar.check(events)
        assert events[-1]["type"] == "error"
        assert message in events[-1]["error"]["message"]
        assert events[-1]["request_id"] == request_id


def read_and_release(proxy: str, pause: Pause) -> tuple[str, str]:
    """Return a complete stream and its request id; `pause` ends after the first text."""
    with httpx.stream(
        "POST", proxy + "/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        received = ""
        for text in response.iter_text():
            received += text
            if '"one"' in received:
                pause.go.set()
    return received, response.headers["request-id"]


def test_a_stream_that_ends_after_the_finish_reason_is_complete(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    """No content is missing if the connection breaks after the finish reason."""
    text, finish, _ = text_chunks("one")
    pause = Pause()
    upstream.then(chunked(text, finish, pause, RESET))
    received, _ = read_and_release(proxy, pause)
    assert events_of(received)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop_sequences", [[], ["x"]])
def test_a_failure_before_the_first_content_is_an_http_error(
    proxy: str,
    upstream: ScriptedUpstream,
    stream: bool,
    stop_sequences: list[str],
) -> None:
    body = {**REQUEST, "stream": stream, "stop_sequences": stop_sequences}
    upstream.then(answers({"error": {"message": "slow down"}}, 429, {"retry-after": "3"}))
    response = post(proxy, body)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert response.json()["error"] == {"type": "rate_limit_error", "message": "slow down"}
    if stream or stop_sequences:
        upstream.then(streams([{"error": {"message": "busy", "code": 503}}], done=False))
        assert post(proxy, body).status_code == 529


def test_an_error_in_a_collected_stream_is_an_http_error(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    first, *_ = text_chunks("one")
    pause = Pause()
    pause.go.set()
    upstream.then(streams([first, pause, {"error": {"message": "busy", "code": 503}}], done=False))
    response = post(proxy, {**REQUEST, "stop_sequences": ["x"]})
    assert (response.status_code, response.json()["error"]["message"]) == (529, "busy")


def test_unavailable_tools_are_listed_in_a_header(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()), streams(text_chunks("a")))
    usable = {"name": "a", "input_schema": {"type": "object"}}
    tools = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "x_1", "name": "né\n"},
        usable,
    ]
    for body in (REQUEST, STREAM):
        response = post(proxy, {**body, "tools": tools})
        assert response.headers["anthropic-proxy-unavailable-tools"] == "web_search, n??"
        assert [tool["function"]["name"] for tool in upstream.request().body["tools"]] == ["a"]


def test_the_upstream_connection_is_reused(upstream: ScriptedUpstream, proxy: str) -> None:
    """A completely read stream returns its connection to the pool."""
    pause = Pause()
    script = chunked(*text_chunks("a"), b"data: [DONE]\n\n", LAST_CHUNK, pause)
    assert script.head is not None
    upstream.then(
        Script(script.head.replace(b"connection: close", b"connection: keep-alive"), script.steps)
    )
    assert events_of(post(proxy, STREAM).text)[-1]["type"] == "message_stop"
    assert not upstream.request().gone.is_set()
    pause.go.set()


def test_a_response_that_is_not_streamed_is_converted_to_events(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    """The upstream ignores `stream`."""
    calls = [{"function": {"name": name, "arguments": '{"n":1}'}} for name in ("a", "b")]
    upstream.then(
        answers(completion("Hello", message={"tool_calls": calls})), answers({"nothing": 1})
    )
    events = events_of(post(proxy, STREAM).text)
    grammar.check(events)
    names = [
        event["content_block"].get("name")
        for event in events
        if event["type"] == "content_block_start"
    ]
    assert names == [None, "a", "b"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["input_tokens"] == 11
    assert post(proxy, STREAM).status_code == 500


def test_reasoning_without_an_opening_tag_is_removed_from_a_converted_response(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers(completion("Hm\n</think>\n\nYes")))
    events = events_of(post(proxy, STREAM).text)
    assert [
        event["delta"]["text"] for event in events if event["type"] == "content_block_delta"
    ] == ["Yes"]


def test_headers_are_sent_after_the_upstream_status(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0.01)
    pause = Pause()
    upstream.then(streams([pause, *text_chunks("one")]))
    events = events_of(read_until(proxy, "event: message_start", 1, pause))
    grammar.check(events)
    assert [event["type"] for event in events].count("message_start") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_max_tokens_0_needs_no_upstream(
    proxy: str, upstream: ScriptedUpstream, stream: bool
) -> None:
    """The value 0 is valid in the API, but upstreams would reject it."""
    response = post(proxy, {**REQUEST, "max_tokens": 0, "stream": stream})
    if stream:
        events = events_of(response.text)
        grammar.check(events)
        end = events[-2]
        stop, usage = end["delta"], end["usage"]
    else:
        stop = response.json()
        usage = stop["usage"]
        assert stop["content"] == []
    assert (stop["stop_reason"], usage["output_tokens"]) == ("max_tokens", 0)
    assert usage["input_tokens"] > 0
    assert upstream.requests == []


def test_threads_are_rejected_with_the_error_code_of_the_api(proxy: str) -> None:
    response = post(proxy, {**REQUEST, "thread": {"type": "create"}})
    assert response.status_code == 400
    assert response.json()["error"]["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": [],
    }


@pytest.mark.parametrize(
    ("version", "status"),
    [(None, 200), ("2023-06-01", 200), ("2026-10-21", 400), ("2027-01-01", 400)],
)
def test_sampling_parameters_depend_on_the_api_version(
    proxy: str, upstream: ScriptedUpstream, version: str | None, status: int
) -> None:
    upstream.then(answers(completion()))
    headers = {"anthropic-version": version} if version else {}
    response = post(proxy, {**REQUEST, "temperature": 1.0, "top_k": None}, headers=headers)
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["message"] == "temperature: Extra inputs are not permitted"


LONG_NAME = "mcp__a_server_with_a_long_name__and_a_tool_whose_name_is_even_longer_than_that"


@pytest.mark.parametrize("stream", [True, False])
def test_long_tool_names_are_restored(proxy: str, upstream: ScriptedUpstream, stream: bool) -> None:
    tools = [{"name": LONG_NAME, "input_schema": {"type": "object"}}]
    history = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": LONG_NAME, "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}],
        },
    ]
    short = to_upstream_name(LONG_NAME)
    call = {"id": "call_1", "type": "function", "function": {"name": short, "arguments": "{}"}}
    if stream:
        first = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]}
        upstream.then(streams([first, *text_chunks(finish="tool_calls")]))
    else:
        upstream.then(
            answers(completion(None, message={"tool_calls": [call]}, finish_reason="tool_calls"))
        )
    choice = {"type": "tool", "name": LONG_NAME}
    body = {**REQUEST, "messages": history, "tools": tools, "tool_choice": choice, "stream": stream}
    response = post(proxy, body)
    blocks = (
        [event.get("content_block") for event in events_of(response.text)]
        if stream
        else response.json()["content"]
    )
    assert [block["name"] for block in blocks if block and block["type"] == "tool_use"] == [
        LONG_NAME
    ]
    sent = upstream.request().body
    assert sent["tools"][0]["function"]["name"] == short
    assert sent["tool_choice"]["function"]["name"] == short
    assert sent["messages"][1]["tool_calls"][0]["function"]["name"] == short


@pytest.mark.parametrize(
    ("setting", "choice", "block_type"),
    [("auto", "auto", "tool_use"), ("auto", "none", "text"), ("off", "auto", "text")],
)
def test_tool_calls_in_the_text_are_recovered(
    upstream: ScriptedUpstream, setting: str, choice: str, block_type: str
) -> None:
    upstream.then(answers(completion('<tool_call>{"name": "now", "arguments": {}}</tool_call>')))
    tools = [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]
    with running_proxy(upstream.url, TOOL_CALL_RECOVERY=setting) as proxy:
        message = post(proxy, {**REQUEST, "tools": tools, "tool_choice": {"type": choice}}).json()
    assert [block["type"] for block in message["content"]] == [block_type]


def test_tokens_are_counted_without_running_the_model(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    tools = [{"name": "a", "description": "does things " * 50, "input_schema": {"type": "object"}}]
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    upstream.then(answers(b"", 404), answers(b"", 404), answers(b"", 404))
    without_tools = post(proxy, body, "/v1/messages/count_tokens?beta=true").json()["input_tokens"]
    with_tools = post(proxy, {**body, "tools": tools}, "/v1/messages/count_tokens").json()[
        "input_tokens"
    ]
    assert 0 < without_tools < 20
    assert with_tools > without_tools + 100
    paths = [request.path for request in upstream.requests]
    assert paths == ["/v1/chat/completions/input_tokens", "/tokenize", "/apply-template"], (
        "the proxy sent a request that runs the model"
    )


@pytest.mark.parametrize("stream", [True, False])
def test_token_estimates_improve_with_responses(
    proxy: str, upstream: ScriptedUpstream, stream: bool
) -> None:
    """This applies to token counts and to `message_start`."""
    body = {**REQUEST, "messages": [{"role": "user", "content": "word " * 1000}], "stream": stream}
    chunks = [
        *text_chunks("Hi")[:-1],
        {"choices": [], "usage": {"prompt_tokens": 2000, "completion_tokens": 1}},
    ]
    upstream_response = {**completion(), "usage": {"prompt_tokens": 2000, "completion_tokens": 1}}
    upstream.then(*[streams(chunks) if stream else answers(upstream_response) for _ in range(2)])
    upstream.then(*[answers(b"", 404) for _ in range(3)])
    responses = [post(proxy, body) for _ in range(2)]
    if stream:
        starts = [events_of(each.text)[0]["message"]["usage"]["input_tokens"] for each in responses]
        assert starts[0] < 1500
        assert starts[1] == pytest.approx(2000, rel=0.05)
    counted = post(
        proxy, {"model": body["model"], "messages": body["messages"]}, "/v1/messages/count_tokens"
    )
    assert counted.json()["input_tokens"] == pytest.approx(2000, rel=0.05)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prefill_is_continued_and_not_repeated(
    proxy: str, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    """llama.cpp repeats the prefill in its response (recorded)."""
    request = {
        **REQUEST,
        "messages": [*REQUEST["messages"], {"role": "assistant", "content": "One, two"}],
        "stream": stream,
    }
    upstream.then(
        streams(text_chunks("One, ", "two, three"))
        if stream
        else answers(completion("One, two, three"))
    )
    response = post(proxy, request)
    deltas = (
        [event.get("delta", {}) for event in events_of(response.text)]
        if stream
        else response.json()["content"]
    )
    assert "".join(each.get("text", "") for each in deltas) == ", three"
    assert upstream.request().body["messages"][-1] == {"role": "assistant", "content": "One, two"}
