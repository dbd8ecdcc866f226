"""The end of a response, while the upstream keeps its connection open.

No time limit of the proxy passes within a test.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from anthropic_proxy.gateway.streams import base, translated
from anthropic_proxy.upstream import http_client
from tests.support.messages_api import REQUEST, STREAM, events_of, post, text_of
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
    streams,
    text_chunks,
)

_DONE = b"data: [DONE]\n\n"
_MESSAGE = (
    b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n',
    (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","delta":{"text":"Hello"}}\n\n'
    ),
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
_RESPONSE: tuple[dict[str, Any], ...] = (
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello"},
    {"type": "response.completed", "response": {"status": "completed", "output": []}},
)
_COLLECTED = {**REQUEST, "stop_sequences": ["never"]}


@pytest.fixture(autouse=True)
def _no_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SILENCE_SECONDS", 3600)
    monkeypatch.setattr(translated, "SILENCE_SECONDS", 3600)
    monkeypatch.setattr(translated, "USAGE_SECONDS", 3600)
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 3600)


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
