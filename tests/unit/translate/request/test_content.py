"""Results of tools as content parts; other blocks are in tests/cases/requests."""

from dataclasses import replace
from typing import Any

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.request.content import to_parts, to_tool_content
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.pdf import read_pages

IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def context(**fields: Any) -> TranslationContext:
    profile = replace(GENERIC, **fields)
    return TranslationContext(profile, TranslationNotes(), UNSIGNED, read_pages)


def test_images_are_within_the_result_where_the_upstream_accepts_them() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}
    assert to_tool_content(result, "x", context(tool_parts=True)) == ([IMAGE_PART], [])
    failed = result | {"is_error": True}
    content, _ = to_tool_content(failed, "x", context(tool_parts=True))
    assert content == [{"type": "text", "text": "Error:"}, IMAGE_PART]


def test_images_follow_the_result_elsewhere() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}
    content, attachments = to_tool_content(result, "x", context(tool_parts=False))
    assert content == "[attachment 1 of x] follows below"
    assert attachments == [{"type": "text", "text": "[attachment 1 of x]:"}, IMAGE_PART]


def test_a_text_alone_stays_a_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": "Hi"}
    assert to_tool_content(result, "x", context(tool_parts=True)) == ("Hi", [])


def test_changes_of_tools_are_no_content() -> None:
    change = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "read"}}
    assert to_parts([change], context()) == []
