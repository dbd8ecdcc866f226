"""Send requests to the Messages API of a proxy and read its events."""

import json
from typing import Any

import httpx

from tests.support.scripted_upstream import (
    DEADLINE,
)

REQUEST: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


STREAM = {**REQUEST, "stream": True}


def post(proxy: str, body: Any, path: str = "/v1/messages", **options: Any) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(proxy + path, content=raw, timeout=DEADLINE, trust_env=False, **options)


def events_of(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def text_of(response: httpx.Response) -> str:
    if response.headers["content-type"].startswith("application/json"):
        return "".join(block["text"] for block in response.json()["content"])
    deltas = [
        event["delta"]
        for event in events_of(response.text)
        if event["type"] == "content_block_delta"
    ]
    return "".join(delta["text"] for delta in deltas)
