"""Requests passed through to a native upstream, over real sockets: bytes compared both ways."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from anthropic_proxy.gateway.streams import base, deferred, passthrough
from anthropic_proxy.translate.passthrough_conversion import to_events
from anthropic_proxy.translate.reasoning.fields import ReasoningBlock
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.tokens.estimate import estimate_untranslated
from anthropic_proxy.upstream import http_client
from anthropic_proxy.wire.sse import encode_event
from tests.support.messages_api import events_of, post, text_of
from tests.support.metrics import parse_samples
from tests.support.running_command import until
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

# With odd spacing, unknown fields, a number that Python would write otherwise, and no max_tokens.
REQUEST = (
    b'{ "model":"claude-x",\n "messages": [{"role":"user","content":"H\\u00ef"}], '
    b'"top_p":0.90 ,"odd":{"b":1,"a":1e2}}\r\n'
)
STREAM = REQUEST.replace(b'"odd"', b'"stream":true,"odd"')
# What chat upstreams take, too.
PLAIN: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hi"}],
}
PLAIN_STREAM = {**PLAIN, "stream": True}
MESSAGE = (
    b'{"type" : "message","id":"msg_theirs", "content":[{"type":"text","text":"Hi"}],"new":[1.0]}\n'
)

START = (
    b'event: message_start\ndata: {"type":"message_start", "message":{"id":"msg_theirs"}   }\n\n'
)
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"text":"event: message_stop\\n"}}\n\n'
)
ODD = b": comment\r\n\r\nid: 7\r\nevent: something_new\r\ndata: [1,\r\ndata: 2]\r\n\r\n"
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
EVENTS = [START, PING, BLOCK, DELTA, ODD, DELTA, STOP]
OVERLOADED = (
    b'{"type":"error", "error":{"type":"overloaded_error","message":"Overloaded"},'
    b'"request_id":"req_theirs"}'
)
OVERLOADED_EVENT = b"event: error\ndata: " + OVERLOADED + b"\n\n"

CONFIG = """
upstreams:
  native: {{url: "{native}", api: messages, key: sk-native}}
  chat: {{url: "{chat}", key: sk-chat}}
routes:
  - {{models: claude-chat, targets: [chat/m, native/claude-m]}}
  - {{models: claude-small, targets: native/small}}
  - {{min_input_tokens: 1000, targets: [chat]}}
  - {{targets: [native, chat/m]}}
aliases:
  best: native/claude-best
"""


def events(*steps: Any) -> Script:
    """A stream whose end is marked."""
    return chunked(*steps, LAST_CHUNK)


@pytest.fixture
def proxy(upstream: ScriptedUpstream) -> Iterator[str]:
    with running_proxy(
        upstream.url, UPSTREAM_API="messages", UPSTREAM_API_KEY="sk-ours-0123"
    ) as address:
        yield address


@contextmanager
def mixed(directory: Path) -> Iterator[tuple[str, ScriptedUpstream, ScriptedUpstream]]:
    """A proxy, its native upstream, and its chat upstream."""
    with ExitStack() as stack:
        native, chat = (stack.enter_context(ScriptedUpstream()) for _ in range(2))
        file = directory / "upstreams.yaml"
        file.write_text(CONFIG.format(native=native.url, chat=chat.url))
        yield stack.enter_context(running_proxy(None, CONFIG_FILE=file)), native, chat


def test_a_message_goes_both_ways_as_it_is(proxy: str, upstream: ScriptedUpstream) -> None:
    told = {
        "request-id": "req_theirs",
        "anthropic-ratelimit-requests-limit": "5",
        "anthropic-organization-id": "o",
    }
    upstream.then(answers(MESSAGE, headers=told))
    asked = {
        "x-api-key": "theirs",
        "anthropic-beta": "a",
        "cookie": "a=b",
        "content-type": "application/json",
    }
    response = post(
        proxy, REQUEST, "/v1/messages?beta=true", headers=[*asked.items(), ("anthropic-beta", "b")]
    )
    assert (response.status_code, response.content) == (200, MESSAGE)
    assert response.headers["anthropic-proxy-upstream-request-id"] == "req_theirs"
    assert response.headers["request-id"] != "req_theirs"
    assert response.headers["anthropic-ratelimit-requests-limit"] == "5"
    assert response.headers["anthropic-proxy-model"] == "claude-x"
    assert "anthropic-organization-id" not in response.headers
    sent = upstream.request()
    assert (sent.raw, sent.path) == (REQUEST, "/v1/messages?beta=true")
    expected = {
        "x-api-key": "sk-ours-0123",
        "anthropic-beta": "a, b",
        "anthropic-version": "2023-06-01",
        "accept-encoding": "identity",
    }
    assert sent.headers.items() >= expected.items()
    assert sent.headers["user-agent"].startswith("python-httpx")
    assert "cookie" not in sent.headers


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["bytes", "pieces", "whole"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_stream_comes_as_it_is(
    proxy: str, upstream: ScriptedUpstream, size: int, ending: bytes
) -> None:
    whole = b"".join(EVENTS).replace(b"\r\n", b"\n").replace(b"\n", ending)
    upstream.then(events(*(whole[at : at + size] for at in range(0, len(whole), size))))
    response = post(proxy, STREAM)
    assert (response.status_code, response.content) == (200, whole)
    assert response.headers["content-type"] == "text/event-stream"
    assert upstream.request().raw == STREAM


@pytest.mark.parametrize(
    "rest",
    [b": bye\n\n", b"data: [DONE]\n\n", b"event: half", PING],
    ids=["comment", "done", "half", "ping"],
)
def test_what_follows_the_end_is_dropped(
    proxy: str, upstream: ScriptedUpstream, rest: bytes
) -> None:
    upstream.then(events(*EVENTS, rest), events(b"".join(EVENTS) + rest))
    for _ in range(2):
        assert post(proxy, STREAM).content == b"".join(EVENTS)


def test_an_end_without_an_empty_line(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(events(*EVENTS[:-1], STOP.rstrip()))
    # The SDKs ignore an event without an empty line.
    assert post(proxy, STREAM).content == b"".join(EVENTS)


def test_events_come_one_by_one(proxy: str, upstream: ScriptedUpstream) -> None:
    pause = Pause()
    upstream.then(events(START, BLOCK, DELTA, pause, STOP))
    with httpx.stream(
        "POST", proxy + "/v1/messages", content=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        come = b""
        for piece in response.iter_raw():
            come += piece
            if come.endswith(DELTA):
                pause.go.set()
    assert come == START + BLOCK + DELTA + STOP


@pytest.mark.parametrize(
    ("request_", "script"),
    [(REQUEST, answers(MESSAGE)), (STREAM, events(*EVENTS))],
    ids=["whole", "stream"],
)
def test_only_the_model_and_configured_fields_change(request_: bytes, script: Script) -> None:
    variables: dict[str, Any] = {
        "COMPLETION_MODEL": "small",
        "UPSTREAM_EXTRA_BODY": '{"odd": null, "speed": "fast"}',
    }
    with (
        ScriptedUpstream() as only,
        running_proxy(only.url + "/?a=b", UPSTREAM_API="messages", **variables) as proxy,
    ):
        only.then(script)
        post(proxy, request_, "/v1/messages?beta=true")
        sent = only.request()
    expected = request_.replace(b'"claude-x"', b'"small"').replace(b'{"b":1,"a":1e2}', b"null")
    assert sent.raw == expected.replace(b"}\r\n", b',"speed":"fast"}\r\n')
    assert sent.path == "/v1/messages?a=b&beta=true"


def test_our_thinking_stays_here(proxy: str, upstream: ScriptedUpstream) -> None:
    thought = {
        "type": "thinking",
        "thinking": "Hm",
        "signature": UNSIGNED.sign(ReasoningBlock("reasoning", ["Hm"], []), "Hm"),
    }
    text = {"type": "text", "text": "Yes"}
    turns = [
        PLAIN["messages"][0],
        {"role": "assistant", "content": [thought, text]},
        PLAIN["messages"][0],
    ]
    upstream.then(answers(MESSAGE))
    post(proxy, {**PLAIN, "messages": turns})
    assert upstream.request().body == {
        **PLAIN,
        "messages": [turns[0], {**turns[1], "content": [text]}, turns[2]],
    }


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            (
                b'{"type":"error","error":{"type":"invalid_request_error",'
                b'"message":"max_tokens: Field required"} }'
            ),
        ),
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}'),
        (429, b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'),
        (500, b'{"type":"error","error":{"type":"api_error","message":"Internal server error"}}'),
        (529, OVERLOADED),
    ],
)
@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
def test_errors_come_as_they_are(
    proxy: str, upstream: ScriptedUpstream, request_: bytes, status: int, body: bytes
) -> None:
    told = {
        "retry-after": "1000",
        "x-should-retry": "true",
        "anthropic-ratelimit-tokens-limit": "1",
        "request-id": "r",
    }
    upstream.then(answers(body, status, told))
    response = post(proxy, request_)
    assert (response.status_code, response.content) == (status, body)
    assert (
        response.headers.items() >= (told | {"request-id": response.headers["request-id"]}).items()
    )
    assert response.headers["anthropic-proxy-upstream-request-id"] == "r"


OVERFLOW = (
    b'{"error":{"code":400,"message":"exceeds the available context",'
    b'"type":"exceed_context_size_error",'
    b'"n_prompt_tokens":9000,"n_ctx":4096}}'
)


@pytest.mark.parametrize(
    ("status", "body", "told", "text"),
    [
        (502, b"<html>Bad gateway</html>", 500, "returned status 502 without an error message"),
        (
            400,
            b'{"error":{"code":400,"message":"bad tool","type":"invalid_request_error"}}',
            400,
            "bad tool",
        ),
        (
            400,
            OVERFLOW,
            400,
            "prompt is too long: 9000 tokens > 4096 maximum",
        ),
        (
            401,
            (
                b'{"type":"error","error":{"type":"authentication_error",'
                b'"message":"invalid x-api-key"}}'
            ),
            500,
            "refused the proxy",
        ),
        (
            403,
            b'{"type":"error","error":{"type":"permission_error","message":"no"}}',
            500,
            "refused the request (403): no",
        ),
        (
            400,
            b'{"type":"error","error":{"type":"api_error","message":"I know sk-ours-0123"}}',
            400,
            "I know ***",
        ),
        (302, OVERLOADED, 500, "redirects"),
        (200, b"<html>Welcome</html>", 500, "not a message (application/json)"),
    ],
)
def test_other_errors_are_translated(
    proxy: str, upstream: ScriptedUpstream, status: int, body: bytes, told: int, text: str
) -> None:
    upstream.then(answers(body, status))
    response = post(proxy, REQUEST)
    assert (response.status_code, response.json()["type"]) == (told, "error")
    assert text in response.json()["error"]["message"]


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("body", "told", "text"),
    [
        (OVERLOADED, 529, "Overloaded"),
        (b'{"code":500,"msg":"404 NOT_FOUND","success":false}', 500, "404 NOT_FOUND"),
        (
            b'{"content":null,"base_resp":{"status_code":1008,"status_msg":"no balance"}}',
            402,
            "no balance",
        ),
        (b'{"error":{"type":"rate_limit_error","message":"slow"}}', 429, "slow"),
        (b'{"error":{"message":"I know sk-ours-0123","code":400}}', 400, "I know ***"),
        (
            (
                b'{"type":"error","error":{"type":"invalid_request_error",'
                b'"message":"invalid params, context window exceeds limit (2013)"}}'
            ),
            400,
            "prompt is too long: invalid params, context window exceeds limit (2013)",
        ),
        (b"{}", 500, "The upstream 127.0.0.1"),
    ],
    ids=["overload", "success", "minimax", "error", "secret", "overflow", "empty"],
)
def test_an_error_with_status_200(
    proxy: str, upstream: ScriptedUpstream, request_: bytes, body: bytes, told: int, text: str
) -> None:
    upstream.then(answers(body))
    response = post(proxy, request_)
    assert (response.status_code, response.json()["type"]) == (told, "error")
    assert response.json()["error"]["message"].startswith(text)


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (
            400,
            "invalid params, context window exceeds limit (2013)",
            "prompt is too long: invalid params, context window exceeds limit (2013)",
        ),
        (
            400,
            "Your request exceeded model token limit: 262144 (requested: 270001)",
            "prompt is too long: 270001 tokens > 262144 maximum",
        ),
        (
            400,
            "prompt is too long: 9 tokens > 8 maximum. See the guide.",
            "prompt is too long: 9 tokens > 8 maximum. See the guide.",
        ),
        (
            400,
            "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens",
            "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens",
        ),
        (500, "insufficient balance (1008)", "insufficient balance (1008)"),
    ],
)
def test_an_overflow_gets_the_text_of_the_api(
    proxy: str, upstream: ScriptedUpstream, status: int, text: str, told: str
) -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": text}}
    upstream.then(answers(error, status))
    response = post(proxy, REQUEST)
    assert response.json()["error"]["message"] == told
    assert response.status_code == (402 if status == 500 else 400)


def test_an_error_event_with_other_words(proxy: str, upstream: ScriptedUpstream) -> None:
    error = b'event: error\ndata: {"message":"slow down","code":429}\n\n'
    upstream.then(events(START, PING, error), events(b"event: error\ndata: \n\n"))
    response = post(proxy, STREAM)
    assert (response.status_code, response.json()["error"]["message"]) == (429, "slow down")
    assert "aborted the response without an error message" in post(proxy, STREAM).text


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/html", b"<html>", "returned an HTML page: it is not an OpenAI-compatible API"),
        ("text/html", b"\n\n", "returned an HTML page: it is not an OpenAI-compatible API"),
        ("Application/JSON; charset=utf-8", b"{}", "not a message (application/json)"),
        ("text/event-stream", b"\n[1]", "not a message (text/event-stream)"),
        ("application/json", b"\n\n", "ended its stream before the end of the message"),
    ],
)
def test_a_stream_that_is_none(
    proxy: str, upstream: ScriptedUpstream, kind: str, body: bytes, text: str
) -> None:
    upstream.then(answers(body, headers={"content-type": kind}))
    assert text in post(proxy, STREAM).json()["error"]["message"]


_WORDS = {"type": "text", "text": "Hello"}
_COMPLETE: dict[str, Any] = {
    "id": "msg_theirs",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [_WORDS],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
_COMPLETE_EVENTS = [encode_event(event) for event in to_events(_COMPLETE)]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
def test_the_client_gets_the_form_that_it_requests(
    proxy: str, upstream: ScriptedUpstream, kind: str
) -> None:
    stream = b"".join(_COMPLETE_EVENTS)
    content_type = {"content-type": kind}
    upstream.then(answers(_COMPLETE, headers=content_type), answers(stream, headers=content_type))
    streamed, whole = post(proxy, STREAM), post(proxy, REQUEST)
    assert (streamed.content, whole.json()) == (stream, _COMPLETE)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert whole.headers["content-type"] == "application/json"


@pytest.mark.parametrize("rest", [b"data: [DONE]\n\n", _COMPLETE_EVENTS[-1].rstrip()])
@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
def test_a_stream_without_its_last_event(
    proxy: str, upstream: ScriptedUpstream, request_: bytes, rest: bytes
) -> None:
    upstream.then(events(*_COMPLETE_EVENTS[:-1], rest))
    response = post(proxy, request_)
    if request_ is STREAM:
        assert response.content == b"".join(_COMPLETE_EVENTS)
    else:
        assert response.json() == _COMPLETE


_NO_MESSAGES = [
    OVERLOADED,
    b'{"code":500,"msg":"404 NOT_FOUND","success":false}',
    b'{"content":null,"base_resp":{"status_code":1008,"status_msg":"no balance"}}',
    b'{"error":{"type":"rate_limit_error","message":"slow"}}',
    b"{}",
    b"<html></html>",
    b"",
    b"upstream timed out",
    OVERLOADED_EVENT,
    b'data: {"error":{"message":"slow","code":429}}\n\n',
    START + OVERLOADED_EVENT,
    START,
]


@pytest.mark.parametrize("body", _NO_MESSAGES)
@pytest.mark.parametrize("request_", [PLAIN, PLAIN_STREAM], ids=["whole", "stream"])
def test_a_response_that_is_no_message_fails_over(
    tmp_path: Path, request_: dict[str, Any], body: bytes
) -> None:
    with mixed(tmp_path) as (proxy, native, chat):
        native.then(answers(body))
        chat.then(
            streams(text_chunks("Hello")) if request_ is PLAIN_STREAM else answers(completion())
        )
        assert text_of(post(proxy, request_)) == "Hello"


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("status", "text", "shown"),
    [
        (400, "this model does not support image input", "Could not process image: this model"),
        (500, "image input is not supported", "Could not process image: image input"),
        (400, "messages.0: Could not process image", "messages.0: Could not process image"),
        (400, "image exceeds 5 MB maximum", "image exceeds 5 MB maximum"),
        (429, "image rate limit: support image", "image rate limit: support image"),
    ],
)
def test_a_refused_image_gets_the_text_of_the_api(
    proxy: str, upstream: ScriptedUpstream, request_: bytes, status: int, text: str, shown: str
) -> None:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    error = {"type": "error", "error": {"type": kind, "message": text}}
    event = b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"
    upstream.then(answers(error, status), answers(event))
    for _ in range(2):
        response = post(proxy, request_)
        assert response.status_code == (429 if status == 429 else 400)
        assert response.json()["error"]["message"].startswith(shown)


# Words that are about an image only if the request has one.
@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "At most 0 image(s) may be provided in one prompt.",
        "messages.0.content.0.type: Input should be 'text'",
        "messages[0].content must be a string",
        "multimodal content is not supported",
    ],
)
def test_a_refused_image_is_recognized_by_the_request(
    proxy: str, upstream: ScriptedUpstream, text: str, is_stream: bool, has_image: bool
) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    content: list[dict[str, Any]] = [{"type": "text", "text": 'an {"type": "image"}'}]
    if has_image:
        content.append({"type": "image", "source": source})
    request_ = json.loads(REQUEST) | {"stream": is_stream}
    request_["messages"] = [{"role": "user", "content": content}]
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
    upstream.then(answers(error, 400))
    response = post(proxy, json.dumps(request_).encode())
    assert response.status_code == 400
    shown = f"Could not process image: {text}" if has_image else text
    assert response.json()["error"]["message"] == shown


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "text/html"])
def test_a_wrong_content_type_is_corrected(
    proxy: str, upstream: ScriptedUpstream, kind: str
) -> None:
    stream = b"".join(EVENTS)
    upstream.then(*(answers(each, headers={"content-type": kind}) for each in (stream, MESSAGE)))
    streamed, whole = post(proxy, STREAM), post(proxy, REQUEST)
    assert (streamed.content, whole.content) == (stream, MESSAGE)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert whole.headers["content-type"] == "application/json"


UNAUTHORIZED = (
    b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
)


@pytest.mark.parametrize(
    "keys", [{"x-api-key": "sk-theirs"}, {"authorization": "Bearer sk-theirs"}]
)
def test_the_clients_own_key(keys: dict[str, str]) -> None:
    variables: dict[str, Any] = {
        "UPSTREAM_API": "messages",
        "UPSTREAM_API_KEY_PASSTHROUGH": True,
    }
    with ScriptedUpstream() as only, running_proxy(only.url, **variables) as proxy:
        only.then(
            answers(MESSAGE),
            answers(UNAUTHORIZED, 401),
            answers({"error": {"message": "no sk-theirs"}}, 401),
        )
        assert post(proxy, REQUEST, headers=keys).content == MESSAGE
        sent = only.request().headers
        assert {name: sent.get(name) for name in ("x-api-key", "authorization")} == {
            "x-api-key": None,
            "authorization": None,
            **keys,
        }
        refused = post(proxy, REQUEST, headers=keys)
        assert (refused.status_code, refused.content) == (401, UNAUTHORIZED)
        other = post(proxy, REQUEST, headers=keys)
        assert (other.status_code, other.json()["error"]["message"]) == (401, "no ***")
        assert post(proxy, REQUEST).status_code == 401
        assert len(only.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages":[]}',
        b'{"model":"","messages":[]}',
        b'{"model":"m","messages":[1]}',
        b'{"model":"m"}',
    ],
)
def test_what_can_not_be_routed_is_refused_here(
    proxy: str, upstream: ScriptedUpstream, body: bytes
) -> None:
    assert post(proxy, body).json()["error"]["type"] == "invalid_request_error"
    assert not upstream.requests


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[]}',
        b'{"model":"m","messages":[{"role":"new"}],"max_tokens":"many"}',
        (
            b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],'
            b'"thread":{"id":"t"}}'
        ),
        b'{"model":"m","messages":[{"role":"user","content":[7,{"type":["anthropic-proxy.1."]}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}',
    ],
)
def test_the_upstream_knows_more_than_we_do(
    proxy: str, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.then(answers(MESSAGE), answers(b'{"input_tokens":1}'))
    assert post(proxy, body).content == MESSAGE
    assert post(proxy, body, "/v1/messages/count_tokens").content == b'{"input_tokens":1}'
    assert [each.raw for each in upstream.requests] == [body, body]


BREAKS = {
    "reset": [RESET],
    "end": [LAST_CHUNK],
    "reset-within-an-event": [DELTA[:40], RESET],
    "end-within-an-event": [DELTA[:-1], LAST_CHUNK],
    "reset-within-the-end": [STOP[:30], RESET],
}


@pytest.mark.parametrize("steps", BREAKS.values(), ids=BREAKS)
def test_a_broken_stream_ends_with_an_error(
    proxy: str, upstream: ScriptedUpstream, steps: list[Any]
) -> None:
    """The client gets the bytes before a reset, which may overtake unread ones: so it waits."""
    pause = Pause()
    upstream.then(chunked(START, BLOCK, DELTA, pause, *steps))
    whole = b""
    with httpx.stream(
        "POST", proxy + "/v1/messages", content=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        for received in response.iter_bytes():
            whole += received
            if whole.startswith(START + BLOCK + DELTA):
                pause.go.set()
    (error,) = events_of(whole[len(START + BLOCK + DELTA) :].decode())
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    assert error["request_id"].startswith("req_")


def test_an_error_of_the_upstream_stays_the_last_event(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(
        events(START + BLOCK, DELTA, OVERLOADED_EVENT), chunked(START + BLOCK, STOP, RESET)
    )
    assert post(proxy, STREAM).content == START + BLOCK + DELTA + OVERLOADED_EVENT
    assert post(proxy, STREAM).content == START + BLOCK + STOP


@pytest.mark.parametrize(
    "steps",
    [
        [OVERLOADED_EVENT],
        [START, PING, OVERLOADED_EVENT],
        [START[:9], START[9:] + OVERLOADED_EVENT],
    ],
)
def test_a_stream_that_begins_with_an_error_is_one(
    proxy: str, upstream: ScriptedUpstream, steps: list[bytes]
) -> None:
    upstream.then(events(*steps))
    response = post(proxy, STREAM)
    assert (response.status_code, response.content) == (529, OVERLOADED)


def test_pings_stand_between_events(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SILENCE_SECONDS", 0.01)
    monkeypatch.setattr(passthrough, "FIRST_CONTENT_SECONDS", 0.01)
    before, within = Pause(), Pause()
    upstream.then(events(START, before, BLOCK, DELTA[:30], within, DELTA[30:], STOP))
    pings = 0
    come = b""
    with httpx.stream(
        "POST", proxy + "/v1/messages", content=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        for piece in response.iter_raw():
            come += piece
            pings = come.count(b"event: ping")
            if pings >= 2:
                before.go.set()
            if BLOCK in come and come[come.index(BLOCK) :].count(b"event: ping") >= 2:
                within.go.set()
    assert pings >= 4
    parts = [part + b"\n\n" for part in come.split(b"\n\n")[:-1]]
    assert [part for part in parts if not part.startswith(b"event: ping")] == [
        START,
        BLOCK,
        DELTA,
        STOP,
    ]


def test_an_upstream_that_does_not_hang_up(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 0.01)
    pause = Pause()
    upstream.then(chunked(*EVENTS, pause))
    assert post(proxy, STREAM).content == b"".join(EVENTS)
    assert upstream.request().gone.wait(DEADLINE)
    pause.go.set()


def test_an_endless_event(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passthrough, "MAX_EVENT_BYTES", 100)
    pause = Pause()
    upstream.then(chunked(START + BLOCK, b"data: ", b"x" * 101, pause))
    assert b"an event of more than 100 bytes" in post(proxy, STREAM).content
    pause.go.set()


def test_who_waits_long_gets_pings_first(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then the stream as it is, with its own beginning."""
    monkeypatch.setattr(deferred, "START_TIMEOUT", 0.01)
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0.01)
    silent, failing = Pause(), Pause()
    upstream.then(events(silent, *EVENTS))
    script = answers(OVERLOADED, 529)
    upstream.then(Script(None, [failing, script.head, *script.steps]))
    for pause, rest in ((silent, b"".join(EVENTS)), (failing, OVERLOADED_EVENT)):
        come = b""
        with httpx.stream(
            "POST", proxy + "/v1/messages", content=STREAM, timeout=DEADLINE, trust_env=False
        ) as response:
            for piece in response.iter_raw():
                come += piece
                if come.count(b"event: ping") >= 2:
                    pause.go.set()
        if rest == OVERLOADED_EVENT:
            assert events_of(come.decode())[-1] == json.loads(OVERLOADED)
        else:
            assert come.endswith(rest)
            assert come.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')


def test_who_leaves_ends_the_request(proxy: str, upstream: ScriptedUpstream) -> None:
    pause = Pause()
    upstream.then(chunked(START, BLOCK, pause))
    with httpx.stream(
        "POST", proxy + "/v1/messages", content=STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        next(response.iter_raw())
    assert upstream.request().gone.wait(DEADLINE)
    pause.go.set()


def test_tokens_are_counted_by_the_upstream(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(b'{"input_tokens": 12,"new":1}'), answers(OVERLOADED, 529))
    response = post(proxy, REQUEST, "/v1/messages/count_tokens?beta=true")
    assert response.content == b'{"input_tokens": 12,"new":1}'
    sent = upstream.request()
    assert (sent.path, sent.raw, sent.headers["x-api-key"]) == (
        "/v1/messages/count_tokens?beta=true",
        REQUEST,
        "sk-ours-0123",
    )
    assert post(proxy, REQUEST, "/v1/messages/count_tokens").content == OVERLOADED


@pytest.mark.parametrize("status", [404, 405, 501])
def test_tokens_are_estimated_where_the_upstream_can_not_count(
    proxy: str, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.then(answers(b"not here", status), answers(b"not here", status))
    assert post(proxy, PLAIN, "/v1/messages/count_tokens").json()["input_tokens"] > 0
    response = post(
        proxy, b'{"model":"m","messages":[{"role":"odd"}]}', "/v1/messages/count_tokens"
    )
    assert (response.status_code, "messages.0" in response.text) == (400, True)


MODELS = [
    {
        "type": "model",
        "id": "claude-a",
        "display_name": "Claude A",
        "created_at": "2026-01-01T00:00:00Z",
        "new": {"a": 1},
    },
    {
        "type": "model",
        "id": "claude-b",
        "display_name": "Claude B",
        "created_at": "2026-01-02T00:00:00Z",
        "max_tokens": 7,
    },
]


def test_models_stay_as_they_are(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers({"data": MODELS, "has_more": False}) for _ in range(2)])
    listed = httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).json()
    assert listed["data"] == MODELS
    sent = upstream.request()
    assert (sent.path, sent.headers["anthropic-version"]) == ("/v1/models?limit=1000", "2023-06-01")
    active = httpx.get(
        proxy + "/v1/models?lifecycle[]=retired", timeout=DEADLINE, trust_env=False
    ).json()
    assert active["data"] == []


def test_errors_of_the_list_come_as_they_are(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(OVERLOADED, 529))
    assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).content == OVERLOADED


@pytest.mark.parametrize("request_", [PLAIN, PLAIN_STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "dying",
    [
        pytest.param(
            answers(OVERLOADED, 529, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
            id="overloaded",
        ),
        pytest.param(answers(UNAUTHORIZED, 401), id="key"),
        pytest.param(answers(b"<html>", 502), id="gateway"),
        pytest.param(Script(None, [RESET]), id="reset"),
        pytest.param(answers(b"<html>"), id="page"),
        pytest.param(events(START, PING, OVERLOADED_EVENT), id="error-in-the-stream"),
        pytest.param(chunked(START, RESET), id="broken"),
        pytest.param(events(START), id="cut"),
    ],
)
def test_from_native_to_chat(tmp_path: Path, request_: dict[str, Any], dying: Script) -> None:
    good = streams(text_chunks("Hello")) if "stream" in request_ else answers(completion("Hello"))
    with mixed(tmp_path) as (proxy, native, chat):
        native.then(dying)
        chat.then(good)
        response = post(proxy, request_)
    assert text_of(response) == "Hello"
    assert (
        response.headers["anthropic-proxy-upstream"],
        response.headers["anthropic-proxy-model"],
    ) == ("chat", "m")
    assert b"msg_theirs" not in response.content


@pytest.mark.parametrize("request_", [PLAIN, PLAIN_STREAM], ids=["whole", "stream"])
def test_from_chat_to_native(tmp_path: Path, request_: dict[str, Any]) -> None:
    raw = json.dumps({**request_, "model": "claude-chat"}).encode()
    with mixed(tmp_path) as (proxy, native, chat):
        chat.then(answers({"error": {"message": "down"}}, 503))
        native.then(events(*EVENTS) if "stream" in request_ else answers(MESSAGE))
        response = post(proxy, raw, headers={"anthropic-beta": "b"})
        sent = native.request()
        assert "anthropic-beta" not in chat.request().headers
    assert response.content == (b"".join(EVENTS) if "stream" in request_ else MESSAGE)
    assert response.headers["anthropic-proxy-upstream"] == "native"
    assert sent.raw == raw.replace(b"claude-chat", b"claude-m")
    assert (sent.headers["x-api-key"], sent.headers["anthropic-beta"]) == ("sk-native", "b")


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-small", "small"),
        ("best", "claude-best"),
        ("native/claude-z", "claude-z"),
        ("claude-x", "claude-x"),
    ],
)
def test_routes_to_native(tmp_path: Path, model: str, sent: str) -> None:
    with mixed(tmp_path) as (proxy, native, chat):
        native.then(answers(MESSAGE))
        assert post(proxy, {**PLAIN, "model": model}).content == MESSAGE
        assert native.request().body == {**PLAIN, "model": sent}
        assert not chat.requests


def test_the_client_is_told_what_the_native_upstream_said(tmp_path: Path) -> None:
    with mixed(tmp_path) as (proxy, native, chat):
        native.then(answers(OVERLOADED, 529))
        chat.then(answers({"error": {"message": "down"}}, 503))
        assert post(proxy, PLAIN).content == OVERLOADED


def test_what_chat_upstreams_do_not_understand(tmp_path: Path) -> None:
    """It is refused where it was meant for one, and never sent to one."""
    odd = {**PLAIN, "max_tokens": None}
    thread = {**PLAIN, "thread": {"id": "t"}}
    with mixed(tmp_path) as (proxy, native, chat):
        native.then(answers(MESSAGE), answers(OVERLOADED, 529), answers(OVERLOADED, 529))
        assert post(proxy, thread).content == MESSAGE
        assert post(proxy, thread).content == OVERLOADED
        assert post(proxy, odd).content == OVERLOADED
        assert len(native.requests) == 3
        refused = post(proxy, {**odd, "model": "claude-chat"})
        assert (refused.status_code, "max_tokens" in refused.text) == (400, True)
        refused = post(proxy, {**thread, "model": "claude-chat"})
        assert refused.json()["error"]["details"]["error_code"] == "thread_unsupported_request"
        long = [{"role": "user", "content": "word " * 2000}, {"role": "odd"}]
        assert post(proxy, {**PLAIN, "messages": long}).status_code == 400
        assert len(native.requests) == 3
        assert not chat.requests


def test_a_count_that_can_not_be_had_is_estimated(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(Script(None, [RESET]))
    counted = post(proxy, REQUEST, "/v1/messages/count_tokens")
    assert counted.status_code == 200
    assert counted.json()["input_tokens"] > 0


def test_what_is_counted_of_a_stream(proxy: str, upstream: ScriptedUpstream) -> None:
    """Calls by their blocks, and not by what a model writes of them."""
    block = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    said = {"type": "text_delta", "text": '{"type": "tool_use"}'}
    calls = [
        sse(
            "content_block_start",
            {"type": "content_block_start", "index": index, "content_block": block},
            spaced=spaced,
        )
        for index, spaced in ((1, True), (2, False))
    ]
    text = sse(
        "content_block_delta",
        {"type": "content_block_delta", "index": 0, "delta": said},
        spaced=False,
    )

    def counted() -> float:
        metrics = httpx.get(f"{proxy}/metrics", trust_env=False).text
        return sum(
            float(line.split()[-1])
            for line in metrics.splitlines()
            if line.startswith("anthropic_proxy_tool_calls_total{")
        )

    before = counted()
    upstream.then(events(START, BLOCK, text, *calls, STOP))
    post(proxy, STREAM)
    until(lambda: counted() == before + 2, "both are counted")


@pytest.mark.parametrize("leaves", [True, False], ids=["left", "broken off"])
@pytest.mark.parametrize(
    ("usage", "input_tokens"),
    [
        ({"input_tokens": 30, "output_tokens": 1}, 30),
        ({}, estimate_untranslated(PLAIN_STREAM).total),
    ],
    ids=["told", "not told"],
)
def test_what_had_come_is_counted(
    proxy: str,
    upstream: ScriptedUpstream,
    usage: dict[str, int],
    input_tokens: int,
    leaves: bool,
) -> None:
    """The upstream tells the tokens of the output at the end, which is never reached here."""
    start = sse(
        "message_start", {"type": "message_start", "message": {"usage": usage}}, spaced=True
    )
    deltas = [
        {"type": "text_delta", "text": 'f"{x}" ' * 100},
        {"type": "thinking_delta", "thinking": "abc\n" * 300},
        {"type": "input_json_delta", "partial_json": '{"text": "' + "x" * 2000 + '"}'},
    ]
    pieces = [
        sse(
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": delta},
            spaced=bool(spaced),
        )
        for spaced, delta in enumerate(deltas)
    ]
    begun, pause = Pause(), Pause()
    upstream.then(chunked(start, BLOCK, begun, *pieces, pause if leaves else RESET))
    before = tokens(proxy)
    with httpx.stream(
        "POST", f"{proxy}/v1/messages", json=PLAIN_STREAM, timeout=DEADLINE, trust_env=False
    ) as response:
        received = b""
        for piece in response.iter_raw():
            received += piece
            begun.go.set()
            if leaves and pieces[-1] in received:
                break
    pause.go.set()
    until(
        lambda: tokens(proxy).get("output", 0) > before.get("output", 0), "what had come is counted"
    )
    counted = {kind: count - before.get(kind, 0) for kind, count in tokens(proxy).items()}
    # Some 4,200 bytes of what a model writes, in quotes and line breaks as JSON has them.
    assert 1000 < counted["output"] < 1400
    assert counted["input"] == input_tokens


def tokens(proxy: str) -> dict[str, float]:
    """All that were counted, by kind."""
    found = parse_samples(httpx.get(f"{proxy}/metrics", trust_env=False, timeout=DEADLINE).text)
    totals: dict[str, float] = {}
    for name, value in found.items():
        if kind := re.match(r'anthropic_proxy_tokens_total\{.*type="(\w+)"', name):
            totals[kind[1]] = totals.get(kind[1], 0) + value
    return totals


def sse(name: str, data: object, *, spaced: bool) -> bytes:
    written = json.dumps(data, separators=None if spaced else (",", ":"))
    return f"event: {name}\ndata: {written}\n\n".encode()
