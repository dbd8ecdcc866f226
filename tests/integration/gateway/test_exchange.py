"""Responses whose format is not the requested one, over real sockets."""

from typing import Any

import pytest

from anthropic_proxy.wire.json_codec import dumps
from tests.support.messages_api import REQUEST, STREAM, events_of, post, text_of
from tests.support.odd_bodies import NOTHING_READ, WHOLE
from tests.support.odd_bodies import STREAM as SSE
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import Script, ScriptedUpstream, answers

CONTENT_TYPES = [
    "application/json",
    "Application/JSON",
    "application/problem+json",
    "application/octet-stream",
    "text/event-stream",
    "text/plain; charset=utf-8",
    "text/html",
]


def _in_pieces(body: bytes, content_type: str) -> Script:
    """Return a response whose first byte is sent alone."""
    script = answers(body, headers={"content-type": content_type})
    script.steps = [body[:1], body[1:]]
    return script


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("body", [dumps(WHOLE), SSE], ids=["JSON", "SSE"])
@pytest.mark.parametrize("request_body", [REQUEST, STREAM, {**REQUEST, "stop_sequences": ["END"]}])
def test_the_first_bytes_show_the_format(
    proxy: str, upstream: ScriptedUpstream, content_type: str, body: bytes, request_body: Any
) -> None:
    upstream.then(_in_pieces(body, content_type))
    response = post(proxy, request_body)
    assert (response.status_code, text_of(response)) == (200, "Hello")


@pytest.mark.parametrize("request_body", [REQUEST, STREAM])
def test_an_unread_response_is_an_error(upstream: ScriptedUpstream, request_body: Any) -> None:
    """The client sees what arrived, without the proxy's key."""
    raw = NOTHING_READ["tokens"].raw.replace(b"Hello", b"sk-upstream-0123456789")
    upstream.then(answers(raw), answers(raw), answers(raw))
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-upstream-0123456789") as proxy:
        response = post(proxy, request_body)
    assert response.status_code == 500
    message = response.json()["error"]["message"]
    assert '"words":"***"' in message
    assert "7 output tokens" in message


def test_a_foreign_event_after_text_does_not_end_the_stream(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    first, rest = SSE.split(b"\n\n", 1)
    odd = b"\n\ndata: null\n\ndata: : OPENROUTER PROCESSING\n\ndata: ping\n\n"
    upstream.then(answers(first + odd + rest, headers={"content-type": "text/event-stream"}))
    events = events_of(post(proxy, STREAM).text)
    assert events[-1]["type"] == "message_stop"
