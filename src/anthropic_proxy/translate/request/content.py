"""Convert content blocks of users and tool results to content parts: one function per block type,
in one table.

A block of an unknown type is kept as JSON for the model to read. Blocks that mean nothing to a
model, or that it must not read, are listed as such.
"""

import re
from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.documents import to_document_parts, to_image_part
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Reasoning is never sent as text, and a summary of the conversation is not the user's.
_DROPPED_TYPES = frozenset({"thinking", "redacted_thinking", "compaction"})

# Data encoded as text, which costs many tokens and means nothing to a model. The lookbehind matches only at the
# beginning of a run: matching from each position would take seconds for many short runs.
_ENCODED_DATA = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_=-]{200,}")


def to_blocks(content: str | list[JsonObject] | None) -> list[JsonObject]:
    """Return content as a list of blocks without empty texts. A string equals a single text block."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return [block for block in blocks if block["type"] != "text" or block["text"]]


def to_parts(blocks: list[JsonObject], context: TranslationContext) -> list[JsonObject]:
    """Return the non-empty content parts of blocks. Raises ApiError (400) for unusable data."""
    parts: list[JsonObject] = []
    for block in blocks:
        block_parts = _CONVERTERS.get(block["type"], _unknown_block_parts)(block, context)
        # The parts of a document have been made here, level by level.
        parts += block_parts if block["type"] == "document" else filter(_is_not_empty, block_parts)
    return parts


def to_tool_text(
    block: JsonObject, label: str, context: TranslationContext
) -> tuple[str, list[JsonObject]]:
    """Return a tool_result as text, and the parts that a tool message can't hold (images, files).

    `label` names the result in the text where a part was, and before the part itself.
    """
    texts: list[str] = []
    attachments: list[JsonObject] = []
    for part in to_parts(to_blocks(block.get("content")), context):
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        reference = f"[attachment {len(attachments) // 2 + 1} of {label}]"
        texts.append(f"{reference} follows below")
        attachments += [openai.text_part(f"{reference}:"), part]
    text = "\n".join(texts)
    return (f"Error: {text}" if block.get("is_error") else text), attachments


def to_tool_content(
    block: JsonObject, label: str, context: TranslationContext
) -> tuple[str | list[JsonObject], list[JsonObject]]:
    """Return a tool_result as content of a tool message, and the parts that this upstream does not
    accept there.
    """
    parts = to_parts(to_blocks(block.get("content")), context) if context.profile.tool_parts else []
    if any(part["type"] != "text" for part in parts):
        return ([openai.text_part("Error:"), *parts] if block.get("is_error") else parts), []
    text, attachments = to_tool_text(block, label, context)
    marks = (
        find_cache_control(candidate, context)
        for candidate in (block, *reversed(to_blocks(block.get("content"))))
    )
    mark = next((candidate for candidate in marks if candidate), None)
    # The providers that know marks refuse them where there is nothing to keep.
    return ([openai.text_part(text, mark)] if mark and text else text), attachments


def find_cache_control(block: JsonObject, context: TranslationContext) -> JsonObject | None:
    """Return the block's `cache_control` for upstreams that support it."""
    mark = block.get("cache_control") if context.profile.cache_control else None
    return mark if isinstance(mark, dict) else None


def to_json(value: Any) -> str:
    """Return a value of unknown shape as JSON for a model, without cache marks and without encoded
    data.
    """
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
    return [openai.text_part(block["text"], find_cache_control(block, context))]


def _image_parts(block: JsonObject, _: TranslationContext) -> list[JsonObject]:
    return [to_image_part(block["source"])]


def _document_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    source, title = block["source"], block.get("title")
    head = "\n".join(
        text for text in (title and f"Document: {title}", block.get("context")) if text
    )
    if source["type"] == "content":
        body = to_parts(to_blocks(source["content"]), context)
    else:
        body = list(
            filter(_is_not_empty, to_document_parts(source, title or "document.pdf", context))
        )
    parts = [openai.text_part(head), *body] if head else body
    return _mark_last_part(parts, find_cache_control(block, context))


def _mark_last_part(parts: list[JsonObject], mark: JsonObject | None) -> list[JsonObject]:
    """Add the mark to the last part; only a text part can hold one (OpenRouter)."""
    last = parts[-1] if parts else {}
    return (
        [*parts[:-1], openai.text_part(last["text"], mark)] if mark and last.get("text") else parts
    )


def _is_not_empty(part: JsonObject) -> bool:
    return bool(part["type"] != "text" or part["text"])


def _search_result_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    lines = [f"Search result: {block['title']}", f"Source: {block['source']}"]
    text = "\n".join([*lines, *(each["text"] for each in block["content"])])
    return [openai.text_part(text, find_cache_control(block, context))]


def _tool_reference_parts(block: JsonObject, _: TranslationContext) -> list[JsonObject]:
    return [
        openai.text_part(
            f"Tool {to_upstream_name(block['tool_name'])} is loaded and can be called."
        )
    ]


def _browser_state_parts(block: JsonObject, _: TranslationContext) -> list[JsonObject]:
    tabs = [
        f"- tab {tab['tab_id']}{' (active)' if tab.get('active') else ''}: {tab['title']} {tab['url']}"
        for tab in block["tabs"]
    ]
    changes = [
        f"- {_describe_browser_change(change)}" for change in block.get("state_changes") or ()
    ]
    lines = ["Browser tabs:", *(tabs or ["(none)"]), *(["Changes:", *changes] if changes else [])]
    return [openai.text_part("\n".join(lines))]


def _describe_browser_change(change: JsonObject) -> str:
    """Return text such as `download_failed: download_id d1, url https://..., error timeout`."""
    details = (
        f"{name} {value}" for name, value in change.items() if name != "type" and value is not None
    )
    return f"{change['type']}: {', '.join(details)}"


def _unknown_block_parts(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    if block["type"] in _DROPPED_TYPES:
        context.notes.ignored.add(f"content block {block['type']}")
    return (
        []
        if block["type"] in _DROPPED_TYPES.union(TOOL_CHANGE_TYPES)
        else [openai.text_part(to_json(block))]
    )


_CONVERTERS: dict[str, Callable[[JsonObject, TranslationContext], list[JsonObject]]] = {
    "text": _text_parts,
    "image": _image_parts,
    "document": _document_parts,
    "search_result": _search_result_parts,
    "tool_reference": _tool_reference_parts,
    "browser_state": _browser_state_parts,
}
