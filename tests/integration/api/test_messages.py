"""The Messages API over a real socket, with a scripted upstream behind it."""

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
def test_message(proxy: str, upstream: ScriptedUpstream, path: str) -> None:
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
    assert "client-key" not in str(sent.headers), "the client's key is not for the upstream"
    assert "authorization" not in sent.headers


def test_stream(proxy: str, upstream: ScriptedUpstream) -> None:
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
def test_thinking_chooses_the_model(upstream: ScriptedUpstream, thinking: Any, model: str) -> None:
    upstream.then(answers(completion()))
    with running_proxy(
        upstream.url + "/v1", REASONING_MODEL="deep", COMPLETION_MODEL="quick"
    ) as proxy:
        assert post(proxy, {**REQUEST, "thinking": thinking}).json()["model"] == "claude-test"
    assert upstream.request().body["model"] == model


def test_the_key_goes_upstream(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()))
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret") as proxy:
        post(proxy, REQUEST)
    assert upstream.request().headers["authorization"] == "Bearer sk-secret"


def test_nothing_is_buffered(proxy: str, upstream: ScriptedUpstream) -> None:
    """Each chunk reaches the client before the upstream sends the next."""
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
    "place", ["in stream", "before the first token", "without stream", "with stop sequences"]
)
def test_a_client_that_leaves_closes_the_upstream(
    proxy: str, upstream: ScriptedUpstream, place: str
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
    script, body = scripts[place]
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
        if place == "in stream":
            while b'"one"' not in client.recv(65536):
                pass
        assert not received.gone.is_set()
    assert received.gone.wait(DEADLINE), "the upstream was not told"
    pause.go.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_at_once(proxy: str, upstream: ScriptedUpstream, stream: bool) -> None:
    """Its leaving comes together with the end of its request."""
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
        "an upstream was not told"
    )


def test_what_nobody_foresaw_breaks_the_answer_off(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause()
    first, *rest = text_chunks("one")
    upstream.then(streams([first, pause, *rest]))
    close = StreamTranslator.close

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(StreamTranslator, "close", broken)
    received, _ = read_and_release(proxy, pause)
    monkeypatch.setattr(StreamTranslator, "close", close)
    assert events_of(received)[-1]["error"] == {
        "type": "api_error",
        "message": "Internal server error",
    }


def test_hidden_reasoning_is_not_silence(
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


def test_pings_in_the_silence_of_an_answer(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the upstream talks of what the client does not get."""
    monkeypatch.setattr(base, "SILENCE_SECONDS", 0.01)
    first, *rest = text_chunks("one")
    pause = Pause()
    upstream.then(streams([first, *reasoning_chunks("Hm"), pause, *rest]))
    events = events_of(read_until(proxy, "event: ping", 4, pause))
    grammar.check(events)
    assert events[-1]["type"] == "message_stop"


def reasoning_chunks(*texts: str) -> list[dict[str, Any]]:
    return [{"choices": [{"index": 0, "delta": {"reasoning_content": text}}]} for text in texts]


def read_until(proxy: str, wanted: str, count: int, pause: Pause) -> str:
    """A whole stream; `pause` ends when `wanted` has come `count` times."""
    received = ""
    with httpx.stream(
        "POST", proxy + "/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        assert response.status_code == 200
        for text in response.iter_text():
            received += text
            if received.count(wanted) >= count:
                pause.go.set()
    return received


def test_a_stop_sequence_stops_the_upstream(proxy: str, upstream: ScriptedUpstream) -> None:
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
def test_what_comes_after_the_end_is_not_read(
    proxy: str, upstream: ScriptedUpstream, stop_sequences: list[str]
) -> None:
    """In one read with the end: an error behind `message_stop` would be no answer."""
    steps = [*streams(text_chunks("one STOP")).steps, b"data: {broken\n\n"]
    upstream.then(streams([b"".join(steps)], done=False))
    events = events_of(post(proxy, {**STREAM, "stop_sequences": stop_sequences}).text)
    grammar.check(events)
    assert events[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [True, False])
def test_a_large_whole_response(proxy: str, upstream: ScriptedUpstream, *, stream: bool) -> None:
    whole = completion()
    whole["choices"][0]["message"]["content"] = text = "<tool_call>" * 10_000
    upstream.then(answers(whole))
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


def test_stop_sequences_without_a_match(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(streams(text_chunks("one ", "two")))
    message = post(proxy, {**REQUEST, "stop_sequences": ["STOP"]}).json()
    assert message["content"] == [{"type": "text", "text": "one two"}]
    assert (message["stop_reason"], message["usage"]["input_tokens"]) == ("end_turn", 11)


def test_an_upstream_that_dies_in_the_stream(proxy: str, upstream: ScriptedUpstream) -> None:
    first, *_ = text_chunks("one")
    pause = Pause()
    for script, text in [
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
        assert text in events[-1]["error"]["message"]
        assert events[-1]["request_id"] == request_id


def read_and_release(proxy: str, pause: Pause) -> tuple[str, str]:
    """A whole stream and its request id; `pause` ends when the first text is there."""
    with httpx.stream(
        "POST", proxy + "/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        received = ""
        for text in response.iter_text():
            received += text
            if '"one"' in received:
                pause.go.set()
    return received, response.headers["request-id"]


def test_an_answer_that_is_whole_but_for_its_end(proxy: str, upstream: ScriptedUpstream) -> None:
    """Cut after the finish reason: nothing of the answer is missing."""
    text, finish, _ = text_chunks("one")
    pause = Pause()
    upstream.then(chunked(text, finish, pause, RESET))
    received, _ = read_and_release(proxy, pause)
    assert events_of(received)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop_sequences", [[], ["x"]])
def test_a_failure_before_the_first_word_is_an_http_error(
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


def test_an_error_later_in_a_collected_answer(proxy: str, upstream: ScriptedUpstream) -> None:
    first, *_ = text_chunks("one")
    pause = Pause()
    pause.go.set()
    upstream.then(streams([first, pause, {"error": {"message": "busy", "code": 503}}], done=False))
    response = post(proxy, {**REQUEST, "stop_sequences": ["x"]})
    assert (response.status_code, response.json()["error"]["message"]) == (529, "busy")


def test_unavailable_tools_are_named(proxy: str, upstream: ScriptedUpstream) -> None:
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


def test_the_connection_is_used_again(upstream: ScriptedUpstream, proxy: str) -> None:
    """A stream that was read to its end leaves its connection to the next request."""
    pause = Pause()
    script = chunked(*text_chunks("a"), b"data: [DONE]\n\n", LAST_CHUNK, pause)
    assert script.head is not None
    upstream.then(
        Script(script.head.replace(b"connection: close", b"connection: keep-alive"), script.steps)
    )
    assert events_of(post(proxy, STREAM).text)[-1]["type"] == "message_stop"
    assert not upstream.request().gone.is_set()
    pause.go.set()


def test_a_whole_answer_to_a_stream_request(proxy: str, upstream: ScriptedUpstream) -> None:
    """An upstream that ignores `stream`."""
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


def test_a_whole_answer_to_a_stream_request_whose_template_opens_the_reasoning(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers(completion("Hm\n</think>\n\nYes")))
    events = events_of(post(proxy, STREAM).text)
    assert [
        event["delta"]["text"] for event in events if event["type"] == "content_block_delta"
    ] == ["Yes"]


def test_headers_come_with_the_upstreams_status(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0.01)
    pause = Pause()
    upstream.then(streams([pause, *text_chunks("one")]))
    events = events_of(read_until(proxy, "event: message_start", 1, pause))
    grammar.check(events)
    assert [event["type"] for event in events].count("message_start") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_no_tokens(proxy: str, upstream: ScriptedUpstream, stream: bool) -> None:
    """max_tokens 0 is legal and needs no upstream, which would refuse it."""
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


def test_threads_are_refused_in_the_words_that_the_sdks_know(proxy: str) -> None:
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
def test_sampling_parameters_by_version(
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
def test_long_tool_names_come_back(proxy: str, upstream: ScriptedUpstream, stream: bool) -> None:
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
    ("setting", "choice", "kind"),
    [("auto", "auto", "tool_use"), ("auto", "none", "text"), ("off", "auto", "text")],
)
def test_calls_in_the_text(
    upstream: ScriptedUpstream, setting: str, choice: str, kind: str
) -> None:
    upstream.then(answers(completion('<tool_call>{"name": "now", "arguments": {}}</tool_call>')))
    tools = [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]
    with running_proxy(upstream.url, TOOL_CALL_RECOVERY=setting) as proxy:
        message = post(proxy, {**REQUEST, "tools": tools, "tool_choice": {"type": choice}}).json()
    assert [block["type"] for block in message["content"]] == [kind]


def test_count_tokens(proxy: str, upstream: ScriptedUpstream) -> None:
    tools = [{"name": "a", "description": "does things " * 50, "input_schema": {"type": "object"}}]
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    upstream.then(answers(b"", 404), answers(b"", 404), answers(b"", 404))
    bare = post(proxy, body, "/v1/messages/count_tokens?beta=true").json()["input_tokens"]
    full = post(proxy, {**body, "tools": tools}, "/v1/messages/count_tokens").json()["input_tokens"]
    assert 0 < bare < 20
    assert full > bare + 100
    asked = [request.path for request in upstream.requests]
    assert asked == ["/v1/chat/completions/input_tokens", "/tokenize", "/apply-template"], (
        "the model is not run"
    )


@pytest.mark.parametrize("stream", [True, False])
def test_estimates_learn_from_answers(proxy: str, upstream: ScriptedUpstream, stream: bool) -> None:
    """Both what a count says and what an answer's start says."""
    body = {**REQUEST, "messages": [{"role": "user", "content": "word " * 1000}], "stream": stream}
    chunks = [
        *text_chunks("Hi")[:-1],
        {"choices": [], "usage": {"prompt_tokens": 2000, "completion_tokens": 1}},
    ]
    whole = {**completion(), "usage": {"prompt_tokens": 2000, "completion_tokens": 1}}
    upstream.then(*[streams(chunks) if stream else answers(whole) for _ in range(2)])
    upstream.then(*[answers(b"", 404) for _ in range(3)])
    answered = [post(proxy, body) for _ in range(2)]
    if stream:
        starts = [events_of(each.text)[0]["message"]["usage"]["input_tokens"] for each in answered]
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
    """As llama.cpp answers one (recorded)."""
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
