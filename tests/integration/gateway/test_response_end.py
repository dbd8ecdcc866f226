"""The end of a response, while the upstream keeps its connection open.

No time limit of the proxy passes within a test.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from anthropic_proxy.gateway.streams import base, translated
from anthropic_proxy.upstream import complete_body, http_client
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import dumps
from anthropic_proxy.wire.sse import encode_event
from tests.support.messages_api import REQUEST, STREAM, events_of, post, text_of
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
    streams,
    text_chunks,
)

_DONE = b"data: [DONE]\n\n"
_MESSAGE = tuple(
    map(
        encode_event,
        [
            events.message_start(events.message("msg_1", "m", {"input_tokens": 1})),
            events.block_start(0, events.text_block()),
            events.text_delta(0, "Hello"),
            events.block_stop(0),
            events.message_delta({"stop_reason": "end_turn"}, {"output_tokens": 1}),
            events.message_stop(),
        ],
    )
)
_RESPONSE: tuple[dict[str, Any], ...] = (
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello"},
    {"type": "response.completed", "response": {"status": "completed", "output": []}},
)
_DOCUMENTS: dict[str, Any] = {
    "chat_completions": completion("Hello"),
    "responses": {
        "object": "response",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello"}],
            }
        ],
    },
    "messages": {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}
_COLLECTED = {**REQUEST, "stop_sequences": ["never"]}


def _in_pieces(document: dict[str, Any]) -> tuple[bytes, ...]:
    """Return a JSON document in pieces, with white space between them."""
    body = dumps(document)
    return b"\n", b" ", body[:1] + b"\n", body[1:] + b"\n"


@pytest.fixture(autouse=True)
def _no_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SILENCE_SECONDS", 3600)
    monkeypatch.setattr(translated, "SILENCE_SECONDS", 3600)
    monkeypatch.setattr(translated, "USAGE_SECONDS", 3600)
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 3600)
    monkeypatch.setattr(complete_body, "ERROR_SECONDS", 3600)
    monkeypatch.setattr(complete_body, "ERROR_SILENCE_SECONDS", 3600)
    monkeypatch.setattr(complete_body, "NEXT_LINE_SECONDS", 3600)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.mark.parametrize(
    ("api", "steps", "body"),
    [
        pytest.param("chat_completions", text_chunks("Hello"), STREAM, id="usage"),
        pytest.param("chat_completions", text_chunks("Hello"), _COLLECTED, id="usage-collected"),
        pytest.param("chat_completions", [*text_chunks("Hello")[:-1], _DONE], STREAM, id="done"),
        pytest.param(
            "chat_completions", [*text_chunks("Hello")[:-1], _DONE], _COLLECTED, id="done-collected"
        ),
        pytest.param("responses", _RESPONSE, STREAM, id="responses"),
        pytest.param("responses", _RESPONSE, _COLLECTED, id="responses-collected"),
        pytest.param("messages", _MESSAGE, STREAM, id="messages"),
        pytest.param("chat_completions", text_chunks("Hello"), REQUEST, id="usage-whole"),
        pytest.param("chat_completions", [*text_chunks("Hello")[:-1], _DONE], REQUEST, id="whole"),
        pytest.param("responses", _RESPONSE, REQUEST, id="responses-whole"),
        pytest.param("messages", _MESSAGE, REQUEST, id="messages-whole"),
        *(
            pytest.param(api, _in_pieces(document), body, id=f"{api}-JSON-{name}")
            for api, document in _DOCUMENTS.items()
            for name, body in (("whole", REQUEST), ("stream", STREAM), ("collected", _COLLECTED))
        ),
    ],
)
def test_the_client_does_not_wait_for_the_connection(
    upstream: ScriptedUpstream, api: str, steps: tuple[Any, ...], body: dict[str, Any]
) -> None:
    pause = Pause()
    with running_proxy(upstream.url, UPSTREAM_API=api, UPSTREAM_CONCURRENCY=1) as proxy:
        # The second request does not wait for the connection of the first one.
        for _ in range(2):
            upstream.then(chunked(*steps, pause))
            assert text_of(post(proxy, body)) == "Hello"
    # The proxy does not wait for it when it stops.
    for request in upstream.requests:
        assert request.gone.wait(DEADLINE)
    pause.go.set()


@pytest.mark.parametrize(
    "body", [REQUEST, STREAM, _COLLECTED], ids=["whole", "stream", "collected"]
)
@pytest.mark.parametrize(
    ("word", "status", "error_type"),
    [
        ("abort", 500, "api_error"),
        ("network_error", 500, "api_error"),
        ("MALFORMED_FUNCTION_CALL", 500, "api_error"),
        ("insufficient_system_resource", 529, "overloaded_error"),
        ("timeout", 504, "timeout_error"),
    ],
)
def test_a_response_that_broke_off_is_never_a_success(
    upstream: ScriptedUpstream, body: dict[str, Any], word: str, status: int, error_type: str
) -> None:
    whole = answers(completion("Hello", finish_reason=word))
    broken = whole if body is REQUEST else streams(text_chunks("Hello", finish=word))
    upstream.then(broken)
    with running_proxy(upstream.url, UPSTREAM_RETRIES=0) as proxy:
        response = post(proxy, body)
    if body is STREAM and response.status_code == 200:
        error = events_of(response.text)[-1]["error"]
    else:
        assert response.status_code == status
        error = response.json()["error"]
    assert error["type"] == error_type
    assert word in error["message"]


def test_a_failure_before_the_first_content_is_sent_again(upstream: ScriptedUpstream) -> None:
    upstream.then(streams(text_chunks(finish="abort")), streams(text_chunks("Hello")))
    with running_proxy(upstream.url, UPSTREAM_RETRIES=1) as proxy:
        assert text_of(post(proxy, STREAM)) == "Hello"


_LIMITED = b'{"error":{"message":"Slow down","type":"rate_limit_error"}}'


def _held(body: bytes, status: int, pause: Pause, *heartbeats: bytes) -> Script:
    """Return an error whose connection stays open after its body."""
    script = chunked(*heartbeats, body, pause)
    script.head = script.head and script.head.replace(b" 200 ", b" %d " % status)
    return script


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("api", ["chat_completions", "responses", "messages"])
@pytest.mark.parametrize("status", [429, 200])
def test_an_error_does_not_wait_for_the_connection(
    upstream: ScriptedUpstream, api: str, body: dict[str, Any], status: int
) -> None:
    pause = Pause()
    upstream.then(_held(_LIMITED, status, pause, b"\n"))
    with running_proxy(upstream.url, UPSTREAM_API=api) as proxy:
        response = post(proxy, body)
    assert (response.status_code, response.json()["error"]["message"]) == (429, "Slow down")
    pause.go.set()


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize(
    ("text", "status", "shown"),
    [
        (b"upstream timed out", 500, "upstream timed out"),
        (b'{"error":{"message":"cut', 400, '{"error":{"message":"cut'),
        (b"<html>Bad gateway</html>", 502, "returned status 502 without an error message"),
        (b"<html>Welcome</html>", 200, "The upstream "),
    ],
)
def test_an_error_without_an_end_is_what_has_arrived(
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    api: str,
    text: bytes,
    status: int,
    shown: str,
) -> None:
    monkeypatch.setattr(complete_body, "ERROR_SILENCE_SECONDS", 0.1)
    pause = Pause()
    upstream.then(_held(text, status, pause))
    with running_proxy(upstream.url, UPSTREAM_API=api) as proxy:
        response = post(proxy, REQUEST)
    assert response.status_code == (400 if status == 400 else 500)
    assert shown in response.json()["error"]["message"]
    pause.go.set()
