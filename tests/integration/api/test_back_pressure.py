"""Memory of open streams: they do not keep their request, which may have megabytes."""

import gc
from typing import Any

import httpx
import pytest

from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    LAST_CHUNK,
    Pause,
    ScriptedUpstream,
    chunked,
    text_chunks,
)

MARK = "a text of the request"
BLOCKS = [{"type": "text", "text": text} for text in (MARK, "and more")]
START = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
STREAM_STARTS: dict[str, list[Any]] = {
    "chat_completions": text_chunks("Hello")[:1],
    "messages": [
        b"event: message_start\ndata: "
        + httpx.Request("POST", "http://x", json=START).content
        + b"\n\n",
        b'event: content_block_start\ndata: {"type": "content_block_start"}\n\n',
    ],
}


def find_request_blocks() -> list[Any]:
    """Return the lists in the memory of this process that contain the blocks of the request."""
    gc.collect()
    lists = [
        each for each in gc.get_objects() if type(each) is list and each and type(each[0]) is dict
    ]
    return [each for each in lists if each[0].get("text") == MARK and each is not BLOCKS]


@pytest.mark.parametrize("api", STREAM_STARTS)
def test_the_request_is_freed_when_its_stream_starts(upstream: ScriptedUpstream, api: str) -> None:
    pause = Pause()
    upstream.then(chunked(*STREAM_STARTS[api], pause, LAST_CHUNK))
    message = {"role": "user", "content": BLOCKS}
    request = {"model": "m", "max_tokens": 9, "stream": True, "messages": [message]}
    with (
        running_proxy(upstream.url, UPSTREAM_API=api) as proxy,
        httpx.stream("POST", f"{proxy}/v1/messages", json=request, timeout=DEADLINE) as response,
    ):
        lines = response.iter_lines()
        while "content_block" not in next(lines):
            continue
        assert pause.reached.wait(DEADLINE)
        request_blocks = find_request_blocks()
        pause.go.set()
        assert request_blocks == []
