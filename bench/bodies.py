"""Request bodies: small bodies of both APIs, and large bodies like those of Claude Code."""

import base64
import json
from typing import Any

_WORDS = (
    "The quick brown fox reads src/anthropic_proxy/server/main.py, "
    'finds 3 problems, and says: "it\'s done".\n'
)
_IMAGE = base64.b64encode(bytes(range(256)) * 300).decode()


def small(model: str, *, stream: bool, anthropic: bool) -> str:
    """Return a short request. OpenAI streams include usage, as in requests of the proxy."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "Say something."}],
    }
    if stream:
        body["stream"] = True
        if not anthropic:
            body["stream_options"] = {"include_usage": True}
    return json.dumps(body)


def _tool(number: int) -> dict[str, Any]:
    properties = {f"argument_{n}": {"type": "string", "description": _WORDS} for n in range(5)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["argument_0"],
        "additionalProperties": False,
    }
    return {"name": f"tool_{number}", "description": _WORDS * 5, "input_schema": schema}


def _turn(number: int, text: str) -> list[dict[str, Any]]:
    call = {
        "type": "tool_use",
        "id": f"toolu_{number}",
        "name": f"tool_{number % 60}",
        "input": {"argument_0": text[:200]},
    }
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": text}
    text_block = {"type": "text", "text": f"Looking at {number}."}
    return [
        {"role": "assistant", "content": [text_block, call]},
        {"role": "user", "content": [result]},
    ]


def large(size: int) -> str:
    """Return a request of about `size` bytes: 60 tools, 300 messages and, if large, an image."""
    tools = [_tool(number) for number in range(60)]
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": _IMAGE},
    }
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "Go on."},
        *([image] if size > 10 * len(_IMAGE) // 2 else []),
    ]
    system = [{"type": "text", "text": _WORDS * 20, "cache_control": {"type": "ephemeral"}}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    body = {
        "model": "whole",
        "max_tokens": 1000,
        "system": system,
        "tools": tools,
        "messages": messages,
    }
    left = size - len(json.dumps(body))
    turns = 150 if left > 60_000 else 20
    text = (_WORDS * (max(left, 0) // len(_WORDS) + 1))[: max(left // turns - 350, 20)]
    for number in range(turns):
        messages += _turn(number, text)
    return json.dumps(body)
