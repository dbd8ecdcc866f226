"""Convert content blocks of user messages and tool results to content parts.

A table has one function for each block type. A block of an unknown type is sent as JSON text.
"""

import re
from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.request.cache_marks import CACHE_BREAKPOINT, find_cache_mark
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.documents import to_document_parts, to_image_part
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Block types that are dropped with a note: reasoning is never sent as text, and a summary of the
# conversation is not content of the user.
_NOTED_TYPES = frozenset({"thinking", "redacted_thinking", "compaction"})

# Encoded data costs many tokens and is useless to a model. The lookbehind limits matches to the
# beginning of a run: with many short runs, matching from each position takes seconds.
_ENCODED_DATA = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_=-]{200,}")


def to_blocks(content: str | list[JsonObject] | None) -> list[JsonObject]:
    """Return content as a list of blocks without empty text blocks.

    A string becomes a single text block.
    """
    if not content:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if block["type"] != "text" or block["text"]]


def to_parts(blocks: list[JsonObject], context: TranslationContext) -> list[JsonObject]:
    """Return the content parts of blocks. Raises ApiError (400) for invalid data."""
    parts: list[JsonObject] = []
    for block in blocks:
        convert = _CONVERTERS.get(block["type"], _unknown_block_parts)
        parts += convert(block, context)
    return parts


def to_tool_text(
    block: JsonObject, label: str, context: TranslationContext
) -> tuple[str, list[JsonObject]]:
    """Return the text of a tool_result, and its other parts (images, files).

    In the text and before each of these parts, a reference with `label` identifies the part.
    """
    parts = to_parts(to_blocks(block.get("content")), context)
    return _separate_attachments(block, parts, label)


def _separate_attachments(
    block: JsonObject, parts: list[JsonObject], label: str
) -> tuple[str, list[JsonObject]]:
    """Return the text of a tool_result with `parts`, and the parts that are not text."""
    texts: list[str] = []
    attachments: list[JsonObject] = []
    for part in parts:
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        reference = f"[attachment {len(attachments) // 2 + 1} of {label}]"
        texts.append(f"{reference} follows below")
        attachments += [openai.text_part(f"{reference}:"), part]
    text = "\n".join(texts)
    if block.get("is_error"):
        text = f"Error: {text}"
    return text, attachments


def to_tool_content(
    block: JsonObject, label: str, context: TranslationContext
) -> tuple[str | list[JsonObject], list[JsonObject]]:
    """Return the content of the tool message for a tool_result, and parts for a later message.

    Images and files are in a later message if the upstream does not accept them in tool messages.
    """
    parts = to_parts(to_blocks(block.get("content")), context)
    if context.profile.tool_parts and any(part["type"] != "text" for part in parts):
        if block.get("is_error"):
            parts = [openai.text_part("Error:"), *parts]
        return _mark_last_part(parts, find_cache_mark(block, context.profile)), []
    text, attachments = _separate_attachments(block, parts, label)
    mark = _find_result_mark(block, context)
    # Providers refuse cache marks on empty text.
    if mark and text:
        return [openai.text_part(text, mark)], attachments
    return text, attachments


def _find_result_mark(block: JsonObject, context: TranslationContext) -> JsonObject | None:
    """Return the mark of a tool_result, or the last mark in its content."""
    for candidate in (block, *reversed(to_blocks(block.get("content")))):
        mark = find_cache_mark(candidate, context.profile)
        if mark:
            return mark
    return None


def _mark_last_part(parts: list[JsonObject], mark: JsonObject | None) -> list[JsonObject]:
    """Return the parts with a mark of the last part. OpenRouter accepts marks only of text."""
    if not mark or not parts:
        return parts
    *others, last = parts
    if last["type"] != "text" and CACHE_BREAKPOINT not in mark:
        return parts
    return [*others, {**last, **mark}]


def to_json(value: Any) -> str:
    """Return a value as JSON text for a model, without cache marks and encoded data."""
    return dumps(_strip_unreadable(value)).decode()


def _strip_unreadable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _strip_unreadable(each) for name, each in value.items() if name != "cache_control"
        }
    if isinstance(value, list):
        return [_strip_unreadable(each) for each in value]
    if isinstance(value, str):
        return _ENCODED_DATA.sub(lambda data: f"[{len(data[0])} characters of data]", value)
    return value


def _text_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    return _to_text_parts(block["text"], find_cache_mark(block, context.profile))


def _to_text_parts(text: str, mark: JsonObject | None = None) -> list[JsonObject]:
    """Return one text part; none for an empty text."""
    return [openai.text_part(text, mark)] if text else []


def _image_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    mark = find_cache_mark(block, context.profile)
    return _mark_last_part([to_image_part(block["source"])], mark)


def _document_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    source, title = block["source"], block.get("title")
    head = []
    if title:
        head.append(f"Document: {title}")
    if block.get("context"):
        head.append(block["context"])
    parts = _to_text_parts("\n".join(head))
    if source["type"] == "content":
        parts += to_parts(to_blocks(source["content"]), context)
    else:
        for part in to_document_parts(source, title or "document.pdf", context):
            if part["type"] != "text" or part["text"]:
                parts.append(part)
    return _mark_last_part(parts, find_cache_mark(block, context.profile))


def _search_result_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    lines = [f"Search result: {block['title']}", f"Source: {block['source']}"]
    lines += [each["text"] for each in block["content"]]
    return _to_text_parts("\n".join(lines), find_cache_mark(block, context.profile))


def _tool_reference_parts(block: JsonObject, _: TranslationContext) -> list[JsonObject]:
    name = to_upstream_name(block["tool_name"])
    return _to_text_parts(f"Tool {name} is loaded and can be called.")


def _browser_state_parts(block: JsonObject, _: TranslationContext) -> list[JsonObject]:
    lines = ["Browser tabs:"]
    for tab in block["tabs"]:
        marker = " (active)" if tab.get("active") else ""
        lines.append(f"- tab {tab['tab_id']}{marker}: {tab['title']} {tab['url']}")
    if not block["tabs"]:
        lines.append("(none)")
    changes = block.get("state_changes") or []
    if changes:
        lines.append("Changes:")
    for change in changes:
        lines.append(f"- {_describe_browser_change(change)}")
    return _to_text_parts("\n".join(lines))


def _describe_browser_change(change: JsonObject) -> str:
    """Return text such as `download_failed: download_id d1, url https://..., error timeout`."""
    details = []
    for name, value in change.items():
        if name != "type" and value is not None:
            details.append(f"{name} {value}")
    return f"{change['type']}: {', '.join(details)}"


def _unknown_block_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    if block["type"] in _NOTED_TYPES:
        context.notes.ignored.add(f"content block {block['type']}")
        return []
    if block["type"] in TOOL_CHANGE_TYPES:
        return []
    return _to_text_parts(to_json(block))


_CONVERTERS: dict[str, Callable[[JsonObject, TranslationContext], list[JsonObject]]] = {
    "text": _text_parts,
    "image": _image_parts,
    "document": _document_parts,
    "search_result": _search_result_parts,
    "tool_reference": _tool_reference_parts,
    "browser_state": _browser_state_parts,
}
