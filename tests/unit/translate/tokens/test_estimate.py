"""Estimates: plausible numbers, not exact ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tokens.estimate import (
    estimate_request,
    estimate_text,
    estimate_untranslated,
)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog.", 9, 14),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 12, 20),
        ("人工智能正在改变世界", 5, 12),
        ("Быстрая коричневая лиса", 6, 14),
        ("🌍" * 4, 2, 12),
    ],
)
def test_text(text: str, low: int, high: int) -> None:
    assert low <= estimate_text(text) <= high


@given(st.text(min_size=1), st.text(min_size=1))
def test_more_text_is_not_fewer_tokens(first: str, second: str) -> None:
    assert estimate_text(first + second) >= estimate_text(first) > 0


USER: dict[str, Any] = {"role": "user", "content": "Hello there"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "function": {"arguments": "x" * 400}}],
}
THOUGHT = {"role": "assistant", "content": "", "reasoning_content": "y" * 400}
TOOLS = [
    {"type": "function", "function": {"name": "a", "description": "d" * 400, "parameters": {}}}
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 200_000}}


def test_request() -> None:
    bare = estimate_request({"messages": [USER]})
    assert (bare.tools, bare.media) == (0, 0)
    assert estimate_request({"messages": [USER, USER]}).text == 2 * bare.text
    for message in (CALL, THOUGHT):
        assert estimate_request({"messages": [USER, message]}).text > bare.text + 90
    with_tools = estimate_request(
        {"messages": [USER], "tools": TOOLS, "response_format": {"type": "json_object"}}
    )
    assert (with_tools.text, with_tools.tools > 100) == (bare.text, True)
    assert with_tools.total == with_tools.text + with_tools.tools


def test_images_and_files_do_not_count_by_their_base64() -> None:
    text = {"type": "text", "text": "Hello there"}
    estimate = estimate_request(
        {"messages": [{"role": "user", "content": [text, IMAGE, IMAGE, FILE]}]}
    )
    assert estimate.text == estimate_request({"messages": [USER]}).text
    assert estimate.media == 2 * 1600 + 5 * 2000


def test_other_parts_do_not_count() -> None:
    """Parts that have no estimate, like the thinking part of Mistral's assistant messages."""
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hello there"}]
    message = {"role": "assistant", "content": parts}
    assert estimate_request({"messages": [message]}) == estimate_request({"messages": [USER]})


def source(kind: str, media_type: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "media_type": media_type, **fields}


@pytest.mark.parametrize(
    ("block", "text", "media"),
    [
        ({"type": "text", "text": "a" * 37, "cache_control": {"type": "ephemeral"}}, 10, 0),
        ({"type": "thinking", "thinking": "a" * 37, "signature": "s" * 9999}, 10, 0),
        (
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "abcd",
                "input": {"x": "a" * 37, "y": [1, None]},
            },
            11,
            0,
        ),
        (
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "text", "text": "a" * 37}],
            },
            10,
            0,
        ),
        ({"type": "image", "source": source("base64", data="A" * 9999)}, 0, 1600),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, 0, 1600),
        (
            {"type": "document", "source": source("base64", "application/pdf", data="A" * 80_000)},
            0,
            4000,
        ),
        ({"type": "document", "source": {"type": "text", "data": "a" * 37}}, 10, 0),
        ({"type": "unknown", "words": "a" * 37}, 10, 0),
        # Arguments that look like sources.
        ({"type": "tool_use", "name": "a" * 37, "input": {"type": "url", "url": 5}}, 10, 0),
        ({"type": "tool_use", "name": "a" * 37, "input": {"type": "base64", "url": None}}, 10, 0),
        (
            {"type": "tool_use", "name": "a" * 37, "input": {"type": "base64", "data": ["b" * 37]}},
            20,
            0,
        ),
        (
            {"type": "tool_use", "name": "a" * 37, "input": {"type": ["url"], "url": "b" * 37}},
            20,
            0,
        ),
    ],
)
def test_untranslated(block: dict[str, Any], text: int, media: int) -> None:
    estimate = estimate_untranslated({"messages": [{"role": "user", "content": [block]}]})
    assert (estimate.text - 4, estimate.tools, estimate.media) == (text, 0, media)


def test_untranslated_system_and_tools() -> None:
    request = {"system": "a" * 37, "messages": [USER], "tools": [{"name": "a", "input_schema": {}}]}
    estimate = estimate_untranslated(request)
    assert estimate.text == 10 + estimate_request({"messages": [USER]}).text
    assert estimate.tools > 5
