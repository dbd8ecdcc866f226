"""How much an upstream can make the proxy keep: little more than it may, whatever it sends."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.wire import sse
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

LIMIT = 2**20
REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
STREAM = REQUEST | {"stream": True}
COLLECTED = REQUEST | {"stop_sequences": ["never"]}
TOO_LARGE = completion("x" * 2 * LIMIT)
LARGE_CHUNKS = text_chunks(*["x" * 4096] * 512)
# 64 MB of text, in 64 KB.
BOMB = gzip.compress(json.dumps(completion("x" * 64 * LIMIT)).encode())
ZIPPED = {"content-encoding": "gzip"}


@pytest.fixture
def bounded(upstream: ScriptedUpstream) -> Iterator[str]:
    with running_proxy(upstream.url, MAX_UPSTREAM_BYTES=LIMIT) as proxy:
        yield proxy


REFUSED = {
    "an answer": (REQUEST, answers(TOO_LARGE)),
    "a compressed answer": (REQUEST, answers(BOMB, headers=ZIPPED)),
    "an error": (REQUEST, answers({"error": {"message": "x" * 2 * LIMIT}}, 400)),
    "a compressed error": (STREAM, answers(BOMB, 503, ZIPPED)),
    "a page": (REQUEST, answers(b"<html>" * LIMIT, 502, {"content-type": "text/html"})),
}


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_read_whole(upstream: ScriptedUpstream, case: str, api: str) -> None:
    asked, script = REFUSED[case]
    with running_proxy(upstream.url, MAX_UPSTREAM_BYTES=LIMIT, UPSTREAM_API=api) as proxy:
        _refused(proxy, upstream, asked, script)


KEPT = {
    "a stream that is collected": (COLLECTED, streams(LARGE_CHUNKS)),
    "a whole answer for a stream": (STREAM, answers(TOO_LARGE)),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_kept_whole(bounded: str, upstream: ScriptedUpstream, case: str) -> None:
    _refused(bounded, upstream, *KEPT[case])


def _refused(proxy: str, upstream: ScriptedUpstream, asked: dict[str, Any], script: Script) -> None:
    upstream.then(script)
    told = httpx.post(f"{proxy}/v1/messages", json=asked, timeout=DEADLINE, trust_env=False)
    assert (told.status_code, told.json()["error"]["type"]) == (500, "api_error")
    assert told.json()["error"]["message"].endswith(f"sent a response of more than {LIMIT} bytes")


def test_streams_may_have_any_size(bounded: str, upstream: ScriptedUpstream) -> None:
    upstream.then(streams(LARGE_CHUNKS))
    told = httpx.post(f"{bounded}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False)
    assert told.text.count("x" * 4096) == 512
    assert "message_stop" in told.text


def test_an_endless_event(
    proxy: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", LIMIT)
    upstream.then(streams([b"data: ", *[b"x" * 65536] * 32], done=False))
    told = httpx.post(f"{proxy}/v1/messages", json=STREAM, timeout=DEADLINE, trust_env=False)
    assert f"an event of more than {LIMIT} bytes" in told.text


def test_a_bomb_is_unpacked_piece_by_piece(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(BOMB, headers=ZIPPED))

    async def sizes() -> list[int]:
        client = UpstreamHTTPClient()
        reply = await client.get(upstream.url, {}, Timeouts(), "up")
        reads: list[int] = []
        while (received := await reply.read_available()) is not None:
            reads.append(len(received))
        await reply.aclose()
        await client.aclose()
        return reads

    reads = asyncio.run(sizes())
    assert sum(reads) > 64 * LIMIT
    assert max(reads) < 4 * LIMIT
