"""What chunks are looked at for."""

from typing import Any

import pytest

from anthropic_proxy.wire.openai import get_plain_text

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
