"""What chunks are looked at for."""

from typing import Any

import pytest

from anthropic_proxy.wire.openai import function_tool, get_plain_text

TEXT = {"delta": {"content": " word"}, "index": 0, "finish_reason": None}


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"choices": [TEXT]}, " word"),
        (
            {
                "choices": [
                    {
                        **TEXT,
                        "delta": {
                            "role": "assistant",
                            "content": "a",
                            "refusal": None,
                            "tool_calls": [],
                        },
                    }
                ]
            },
            "a",
        ),
        (
            {"choices": [TEXT], "usage": None, "service_tier": "default", "obfuscation": "x"},
            " word",
        ),
        ({"choices": [TEXT], "usage": {"prompt_tokens": 1}}, ""),
        ({"choices": [TEXT], "error": {"message": "no"}}, ""),
        ({"choices": [{**TEXT, "finish_reason": "stop"}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": "a", "reasoning_content": "b"}}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": "a", "tool_calls": [{"index": 0}]}}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": [{"type": "text", "text": "a"}]}}]}, ""),
        ({"choices": [{**TEXT, "delta": None}]}, ""),
        ({"choices": []}, ""),
        ({}, ""),
    ],
)
def test_plain_text(chunk: dict[str, Any], text: str) -> None:
    assert get_plain_text(chunk) == text


@pytest.mark.parametrize(
    ("description", "options", "more"),
    [
        ("Does it.", {}, {"description": "Does it."}),
        (None, {}, {}),
        ("", {}, {}),
        (None, {"strict": False}, {}),
        (None, {"strict": True}, {"strict": True}),
    ],
)
def test_function_tool(description: str | None, options: Any, more: Any) -> None:
    assert function_tool("f", description, {}, **options) == {
        "type": "function",
        "function": {"name": "f", "parameters": {}, **more},
    }
