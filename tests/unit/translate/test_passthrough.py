"""What is passed through, and what is not: bodies, headers of answers, errors."""

import json
from typing import Any

import pytest

from anthropic_proxy.translate import passthrough
from anthropic_proxy.translate.reasoning.fields import ReasoningBlock
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.reasoning.thinking_history import (
    DISABLE,
    USE_ADAPTIVE,
    ThinkingChange,
    ThinkingPolicy,
)
from anthropic_proxy.wire.json_codec import dumps

OURS = Signer("secret").sign(ReasoningBlock("reasoning", ["Hm"], []), "Hm")
THEIRS = {"type": "thinking", "thinking": "Hm", "signature": "EqQBCgIYAhIM"}
TEXT = {"type": "text", "text": "Yes"}
USER = {"role": "user", "content": "Hi"}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def sent(messages: Any, model: str = "m", **extra: Any) -> Any:
    request = {"messages": messages, "model": "m", "temperature": 1.0}
    return json.loads(
        passthrough.build_request_body(json.dumps(request).encode(), request, model, extra)
    )


def test_a_body_stays_as_it_is() -> None:
    raw = b' {"model" : "m","messages":[ ], "x": 1.50 , "text": "anthropic-proxy.1" }\n'
    assert passthrough.build_request_body(raw, json.loads(raw), "m", {}) is raw
    assert passthrough.build_request_body(raw, json.loads(raw), "n", {}) == raw.replace(
        b'"m"', b'"n"'
    )
    assert passthrough.build_request_body(
        raw, json.loads(raw), "m", {"x": 2, "y": {}}
    ) == raw.replace(b"1.50", b"2").replace(b" }\n", b' ,"y":{}}\n')


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        pytest.param(
            [
                USER,
                assistant({"type": "thinking", "thinking": "Hm", "signature": OURS}, THEIRS, TEXT),
            ],
            [USER, assistant(THEIRS, TEXT)],
            id="thinking",
        ),
        pytest.param(
            [USER, assistant({"type": "redacted_thinking", "data": OURS}, TEXT)],
            [USER, assistant(TEXT)],
            id="redacted",
        ),
        pytest.param(
            [USER, assistant({"type": "thinking", "thinking": "Hm", "signature": OURS}), USER],
            [USER, USER],
            id="alone",
        ),
        pytest.param(
            [{"role": "user", "content": OURS}, assistant(TEXT, 7, {"type": []})], None, id="said"
        ),
        pytest.param(
            [USER, assistant({"type": "tool_use", "id": "t", "input": {"signature": OURS}})],
            None,
            id="tool",
        ),
    ],
)
def test_our_signatures_stay_here(messages: list[Any], kept: list[Any] | None) -> None:
    assert sent(messages)["messages"] == (messages if kept is None else kept)


@pytest.mark.parametrize("signature", ["anthropic-proxy.1.compaction", "theirs"])
def test_our_summaries_become_texts(signature: str) -> None:
    block = {"type": "compaction", "content": "We said hi.", "signature": signature}
    messages = sent(
        [USER, assistant(block, TEXT), {"role": "user", "content": "anthropic-proxy.1."}]
    )["messages"]
    if signature == "theirs":
        assert messages[1]["content"][0] == block
    else:
        assert "We said hi." in messages[0]["content"][0]["text"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]
        assert "compaction" not in str(messages)


_ENABLED = {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize(
    ("change", "requested", "configured", "expected"),
    [
        (USE_ADAPTIVE, None, _ENABLED, {"type": "adaptive"}),
        (USE_ADAPTIVE, _ENABLED, None, {"type": "adaptive"}),
        (USE_ADAPTIVE, {"type": "disabled"}, _ENABLED, {"type": "adaptive"}),
        (USE_ADAPTIVE, _ENABLED, {"type": "disabled"}, {"type": "disabled"}),
        (DISABLE, None, _ENABLED, None),
        (DISABLE, _ENABLED, _ENABLED, None),
        (DISABLE, _ENABLED, None, None),
    ],
)
def test_refused_thinking_of_the_configuration(
    change: ThinkingChange, requested: Any, configured: Any, expected: Any
) -> None:
    request = {"messages": [USER], "model": "m"}
    if requested:
        request["thinking"] = requested
    extra = {"thinking": configured} if configured else {}
    policy = ThinkingPolicy(changes=frozenset({change.name}))
    raw = json.dumps(request).encode()
    body = passthrough.build_request_body(raw, request, "n", {"x": 1, **extra}, policy)
    fields = {"thinking": expected} if expected else {}
    assert json.loads(body) == {"messages": [USER], "model": "n", "x": 1, **fields}


def test_headers_of_answers() -> None:
    kept = {
        "content-type": "application/json",
        "anthropic-ratelimit-tokens-remaining": "7",
        "retry-after": "3",
        "x-should-retry": "true",
    }
    dropped = {
        "anthropic-organization-id": "o",
        "set-cookie": "a=b",
        "content-length": "2",
        "date": "x",
        "server": "y",
    }
    passed = passthrough.filter_response_headers(kept | dropped | {"request-id": "req_theirs"})
    assert passed == kept | {"anthropic-proxy-upstream-request-id": "req_theirs"}


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "overloaded_error",
        ),
        (b'{"error":{"type":"some_new_error"},"type": "error","request_id":"r"}', "some_new_error"),
        (b'{"type":"error","error":{"type":"BadRequestError","message":"vLLM"}}', None),
        (b'{"error":{"code":400,"type":"invalid_request_error","message":"llama.cpp"}}', None),
        (b'{"type":"error","error":"text"}', None),
        (b"<html>Bad gateway</html>", None),
        (b"[]", None),
    ],
)
def test_errors(raw: bytes, kind: str | None) -> None:
    error = passthrough.parse_native_error(529, {"retry-after": "1"}, raw)
    if kind is None:
        assert error is None
        assert passthrough.parse_event_error(raw) is None
        return
    assert error is not None
    assert (error.status, error.upstream_status, error.type, error.headers) == (
        529,
        529,
        kind,
        {"retry-after": "1"},
    )
    assert error.to_json("req_ours") == raw
    assert error.body("req_ours") == json.loads(raw)
    assert str(error).startswith(f"529 {kind}: ")
    told = passthrough.parse_event_error(raw)
    assert told is not None
    assert told.status == {"overloaded_error": 529}.get(kind, 500)


def test_an_answer_of_400_and_above_is_an_error() -> None:
    envelope = b'{"type":"error","error":{"type":"api_error"}}'
    for status, is_error in ((399, False), (400, True)):
        assert (passthrough.parse_native_error(status, {}, envelope) is not None) is is_error


def test_a_redirect_is_no_error() -> None:
    assert (
        passthrough.parse_native_error(302, {}, b'{"type":"error","error":{"type":"api_error"}}')
        is None
    )


@pytest.mark.parametrize(
    ("told", "so_far"),
    [
        ({"input_tokens": 9, "output_tokens": 1}, {"input_tokens": 9, "output_tokens": 5}),
        ({"input_tokens": 9, "output_tokens": 30}, {"input_tokens": 9, "output_tokens": 30}),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 70, "output_tokens": 5}),
        (
            {"input_tokens": 0, "cache_read_input_tokens": 80},
            {"input_tokens": 0, "cache_read_input_tokens": 80, "output_tokens": 5},
        ),
        ({"input_tokens": None, "output_tokens": "many"}, {"input_tokens": 70, "output_tokens": 5}),
        ({}, {"input_tokens": 70, "output_tokens": 5}),
    ],
)
def test_usage_of_what_has_come(told: dict[str, Any], so_far: dict[str, Any]) -> None:
    assert passthrough.estimate_usage(told, 70, 5) == so_far


def _event(data: Any) -> bytes:
    return b"event: x\ndata: " + dumps(data) + b"\n\n"


_START = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
_END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 30},
}


@pytest.mark.parametrize(
    ("events", "usage", "stop_reason"),
    [
        ([], {}, None),
        ([_START], {"input_tokens": 9, "output_tokens": 1}, None),
        ([_START, _END], {"input_tokens": 9, "output_tokens": 30}, "end_turn"),
        ([_END, {"type": "message_delta", "delta": {}}], {"output_tokens": 30}, "end_turn"),
        ([[], {"message": 1, "delta": 2, "usage": 3}], {}, None),
    ],
)
def test_usage_of_a_stream(events: Any, usage: Any, stop_reason: str | None) -> None:
    assert passthrough.parse_stream_usage(b"".join(map(_event, events))) == (usage, stop_reason)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {
                "usage": {"output_tokens": 3},
                "stop_reason": "tool_use",
                "content": [{"type": "text"}, {"type": "tool_use"}, {"type": "tool_use"}, 7],
            },
            ({"output_tokens": 3}, "tool_use", 2),
        ),
        ({"usage": 1, "content": {"type": "tool_use"}}, ({}, None, 0)),
        ([], ({}, None, 0)),
    ],
)
def test_usage_of_a_message(message: Any, expected: Any) -> None:
    assert passthrough.parse_message_usage(dumps(message)) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"type":"error","error":{"type":"api_error","message":"m"}}', True),
        (b'{"type":"message","error":{"type":"api_error"}}', False),
        (b'{"type":"message"}', False),
    ],
)
def test_bodies_that_are_errors(raw: bytes, *, expected: bool) -> None:
    assert passthrough.is_error_body(raw) is expected
