"""Estimates of requests: their texts, and what a chat template adds."""

from typing import Any

import pytest

from anthropic_proxy.translate.tokens.estimate import estimate_request, estimate_untranslated
from anthropic_proxy.translate.tokens.text_estimate import estimate_text

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


TEXT = "word " * 7 + "b!"
TOKENS = estimate_text(TEXT)


def test_request() -> None:
    bare = estimate_request({"messages": [USER]})
    assert (bare.tools, bare.media) == (0, 0)
    assert estimate_request({"messages": [USER, USER]}).text == 2 * bare.text
    for message in (CALL, THOUGHT):
        assert estimate_request({"messages": [USER, message]}).text > bare.text + 80
    with_tools = estimate_request(
        {"messages": [USER], "tools": TOOLS, "response_format": {"type": "json_object"}}
    )
    assert (with_tools.text, with_tools.tools > 100) == (bare.text, True)
    assert with_tools.total == with_tools.text + with_tools.tools + with_tools.template


@pytest.mark.parametrize(
    ("messages", "tools", "template"),
    [
        ([USER], [], 3 + 4),
        ([USER] * 9, [], 3 + 9 * 4),
        ([USER, CALL], TOOLS, 3 + 2 * 4 + 12 + 40),
        ([USER], TOOLS * 30, 3 + 4 + 40),
    ],
)
def test_the_template_of_a_request(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], template: int
) -> None:
    body = {"messages": messages} | ({"tools": tools} if tools else {})
    assert estimate_request(body).template == template


FUNCTION = {"name": TEXT, "arguments": TEXT}


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"role": "user", "content": None}, 0),
        ({"role": "user", "content": ""}, 0),
        ({"role": "assistant", "content": TEXT, "reasoning_content": TEXT}, 2 * TOKENS),
        ({"role": "assistant", "content": TEXT, "reasoning_content": None}, TOKENS),
        # Templates omit the ids of calls.
        ({"role": "tool", "content": TEXT, "tool_call_id": "call_" + "9" * 35}, TOKENS),
        (
            {"role": "assistant", "tool_calls": [{"id": "9" * 40, "function": FUNCTION}] * 2},
            4 * TOKENS,
        ),
        ({"role": "assistant", "tool_calls": None}, 0),
    ],
)
def test_the_text_of_a_message(message: dict[str, Any], tokens: int) -> None:
    assert estimate_request({"messages": [message]}).text == tokens


def test_a_call_counts_alike_in_both_apis() -> None:
    """The arguments of a call, their names included, as JSON."""
    call = {"id": "toolu_1", "function": {"name": "Bash", "arguments": '{"command":"ls -la"}'}}
    block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls -la"}}
    translated = estimate_request({"messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert translated == estimate_untranslated(
        {"messages": [{"role": "assistant", "content": [block]}]}
    )


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
        ({"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}, TOKENS, 0),
        ({"type": "thinking", "thinking": TEXT, "signature": "s" * 9999}, TOKENS, 0),
        (
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "text", "text": TEXT}],
            },
            TOKENS,
            0,
        ),
        ({"type": "image", "source": source("base64", data="A" * 9999)}, 0, 1600),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, 0, 1600),
        (
            {"type": "document", "source": source("base64", "application/pdf", data="A" * 80_000)},
            0,
            4000,
        ),
        ({"type": "document", "source": {"type": "text", "data": TEXT}}, TOKENS, 0),
        ({"type": "unknown", "words": TEXT, "count": 5}, TOKENS, 0),
        # Objects that only look like sources or calls.
        ({"type": "unknown", "source": {"type": "url", "url": 5, "words": TEXT}}, TOKENS, 0),
        ({"type": "unknown", "source": {"type": ["url"], "url": TEXT}}, TOKENS, 0),
        ({"type": "unknown", "source": {"type": "base64", "data": [TEXT]}}, TOKENS, 0),
        ({"type": "unknown", "name": TEXT}, TOKENS, 0),
        ({"type": "unknown", "name": None, "input": TEXT}, TOKENS, 0),
    ],
)
def test_untranslated(block: dict[str, Any], text: int, media: int) -> None:
    estimate = estimate_untranslated({"messages": [{"role": "user", "content": [block]}]})
    assert (estimate.text, estimate.tools, estimate.media) == (text, 0, media)
    assert estimate.template == 7


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_arguments_are_no_blocks(kind: str) -> None:
    block = {"type": kind, "name": "x", "input": source("base64", data="word " * 99)}
    estimate = estimate_untranslated({"messages": [{"role": "assistant", "content": [block]}]})
    assert estimate.media == 0
    assert estimate.text > 90


def test_untranslated_system_and_tools() -> None:
    request = {"system": TEXT, "messages": [USER], "tools": [{"name": "a", "input_schema": {}}]}
    estimate = estimate_untranslated(request)
    assert estimate.text == TOKENS + estimate_request({"messages": [USER]}).text
    assert estimate.tools > 5
    assert estimate.template == 3 + 4 + 40
