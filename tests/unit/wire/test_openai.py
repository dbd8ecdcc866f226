"""What chunks are looked at for."""

from typing import Any

import pytest

from anthropic_proxy.wire.openai import (
    function_tool,
    get_content_text,
    get_plain_text,
    list_choices,
    unwrap_envelope,
)

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
        ({"choices": [{**TEXT, "error": {"message": "no"}}]}, ""),
        ({"choices": [{**TEXT, "error": None}], "base_resp": None}, " word"),
        ({"choices": [TEXT], "base_resp": {"status_code": 1002}}, ""),
        ({"choices": [{**TEXT, "finish_reason": "stop"}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": "a", "reasoning_content": "b"}}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": "a", "tool_calls": [{"index": 0}]}}]}, ""),
        ({"choices": [{**TEXT, "delta": {"content": [{"type": "text", "text": "a"}]}}]}, ""),
        ({"choices": [{**TEXT, "delta": None}]}, ""),
        ({"choices": [{**TEXT, "index": 1}]}, ""),
        ({"choices": [{**TEXT, "message": {"content": "a"}}]}, ""),
        ({"choices": [TEXT, {**TEXT, "index": 1}]}, ""),
        ({"choices": TEXT}, ""),
        ({"choices": [None]}, ""),
        ({"choices": []}, ""),
        ({}, ""),
    ],
)
def test_plain_text(chunk: dict[str, Any], text: str) -> None:
    assert get_plain_text(chunk) == text


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        ([{"index": 0, "text": "a"}], ["a"]),
        ([{"index": 1, "text": "b"}, {"index": 0, "text": "a"}], ["a", "b"]),
        ([{"text": "a"}, {"text": "b"}], ["a", "b"]),
        ([{"index": None, "text": "a"}, {"index": "1", "text": "b"}], ["a", "b"]),
        ([None, 1, {"text": "a"}], ["a"]),
        ({"text": "a"}, ["a"]),
        ([], []),
        (None, []),
        ("a", []),
    ],
)
def test_choices(choices: Any, texts: list[str]) -> None:
    assert [choice["text"] for choice in list_choices({"choices": choices})] == texts


_CHOICES = [{"index": 0}]


@pytest.mark.parametrize(
    ("body", "unwrapped"),
    [
        ({"data": {"choices": _CHOICES}}, {"choices": _CHOICES}),
        ({"output": {"choices": _CHOICES}, "usage": 1}, {"choices": _CHOICES, "usage": 1}),
        (
            {"data": {"choices": _CHOICES, "usage": 2}, "usage": 1},
            {"choices": _CHOICES, "usage": 2},
        ),
        ({"choices": None, "result": {"choices": _CHOICES}}, {"choices": _CHOICES}),
        (
            {"response": {"output": [1], "status": "completed"}},
            {"output": [1], "status": "completed"},
        ),
        ({"data": {"error": {"message": "no"}}}, {"error": {"message": "no"}}),
        (
            {"choices": [], "data": {"choices": _CHOICES}},
            {"choices": [], "data": {"choices": _CHOICES}},
        ),
        (
            {"error": "no", "data": {"choices": _CHOICES}},
            {"error": "no", "data": {"choices": _CHOICES}},
        ),
        ({"data": {"choices": []}}, {"data": {"choices": []}}),
        ({"data": [_CHOICES]}, {"data": [_CHOICES]}),
        ({"output": [1], "status": "completed"}, {"output": [1], "status": "completed"}),
        ({}, {}),
    ],
)
def test_envelopes(body: dict[str, Any], unwrapped: dict[str, Any]) -> None:
    assert unwrap_envelope(body) == unwrapped


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        (None, ""),
        (1, ""),
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": "a"}, "b", None, {"text": {"value": "c"}}], "abc"),
        ([{"type": "thinking", "thinking": "a"}, {"type": "text", "text": None}], ""),
        ([{"type": "refusal", "refusal": "no"}], "no"),
    ],
)
def test_content_text(content: Any, text: str) -> None:
    assert get_content_text(content) == text


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
