"""Recorded responses of servers' own Messages APIs, passed through to the SDK unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.integration.replay.playing import Replaying
from tests.integration.replay.reading import read
from tests.integration.replay.recordings import BESIDE, NATIVE, Recording, recordings
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE

RECORDINGS = {name: each for name, each in recordings().items() if f"/{NATIVE}" in name}

# The SDK's strict mode requires the empty input at a call's start, which llama.cpp omits.
# The passthrough does not repair it.
NOT_STRICT = "llama-server/native-tool-stream"

TYPES = {400: "invalid_request_error", 404: "not_found_error", 500: "api_error"}

pytestmark = pytest.mark.skipif(not BESIDE.is_dir(), reason=f"there is no {BESIDE}")


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with (
        Replaying(RECORDINGS) as upstream,
        running_proxy(upstream.url, UPSTREAM_API="messages") as address,
    ):
        yield address


def told(proxy: str, recording: Recording) -> Any:
    """The message that the SDK makes of it."""
    ask: Any = {
        "model": recording.name,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    with anthropic.Anthropic(
        base_url=proxy,
        api_key="any",
        max_retries=0,
        timeout=DEADLINE,
        _strict_response_validation=recording.name != NOT_STRICT,
    ) as client:
        if not recording.is_stream:
            return client.messages.create(**ask)
        with client.messages.stream(**ask) as stream:
            return stream.get_final_message()


def in_short(content: list[dict[str, Any]]) -> list[Any]:
    return [
        block["text"] if block["type"] == "text" else (block["name"], block["input"])
        for block in content
    ]


def said(recording: Recording) -> tuple[list[Any], str, int]:
    """Content, stop reason and output tokens, as the recording has them."""
    if not recording.is_stream:
        message = json.loads(recording.body)
        return (
            in_short(message["content"]),
            message["stop_reason"],
            message["usage"]["output_tokens"],
        )
    lines = [
        line[6:] for line in recording.body.decode().splitlines() if line.startswith("data: {")
    ]
    events = [json.loads(line) for line in lines]
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    texts = [""] * len(blocks)
    for event in events:
        if event["type"] == "content_block_delta":
            texts[event["index"]] += (
                event["delta"].get("text") or event["delta"].get("partial_json") or ""
            )
    content = [
        {**block, "text": text} if block["type"] == "text" else {**block, "input": json.loads(text)}
        for block, text in zip(blocks, texts, strict=True)
    ]
    end = next(event for event in events if event["type"] == "message_delta")
    return in_short(content), end["delta"]["stop_reason"], end["usage"]["output_tokens"]


@pytest.mark.parametrize("name", [name for name, each in RECORDINGS.items() if each.status < 300])
def test_answer(proxy: str, name: str) -> None:
    message = told(proxy, RECORDINGS[name])
    content = in_short([block.to_dict() for block in message.content])
    assert (content, message.stop_reason, message.usage.output_tokens) == said(RECORDINGS[name])


@pytest.mark.parametrize("name", [name for name, each in RECORDINGS.items() if each.status >= 300])
def test_error(proxy: str, name: str) -> None:
    recording = RECORDINGS[name]
    with pytest.raises(anthropic.APIStatusError) as caught:
        told(proxy, recording)
    assert isinstance(caught.value.body, dict)
    reading = read(recording)
    # A missing path is a configuration error; a 500 of the recorded servers is a request error.
    changed = {500: 400, 404: 500 if reading.lacks_path else 404}
    assert caught.value.status_code == changed.get(recording.status, recording.status)
    assert caught.value.body["error"]["type"] == TYPES[caught.value.status_code]
    message = caught.value.body["error"]["message"]
    assert reading.error.strip() in message or message.startswith("prompt is too long: ")
