"""Requests and chunks that several modules use."""

from typing import Any

from anthropic.types import ToolParam

from tests.support.scripted_upstream import text_chunks

ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


TOOL: ToolParam = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def tool_chunks(*calls: tuple[str, str], finish: str = "tool_calls") -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Let me see."}}]}
    ]
    for index, (name, arguments) in enumerate(calls):
        first = {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        pieces = [
            {"index": index, "function": {"arguments": piece}}
            for piece in (arguments[:5], arguments[5:])
        ]
        chunks += [
            {"choices": [{"index": 0, "delta": {"tool_calls": [each]}}]}
            for each in (first, *pieces)
        ]
    return [*chunks, *text_chunks(finish=finish)]
