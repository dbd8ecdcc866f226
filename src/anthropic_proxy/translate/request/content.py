"""Content blocks of users and of tool results -> content parts. One function a block type, in one table.

A block of a type that nobody knows is kept for the model to read, as JSON: clients know what they send. What says nothing
to a model, or must not be read by it, is named as such.
"""

import re
from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.request.context import Target
from anthropic_proxy.translate.request.documents import document_parts, image_part
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Reasoning is never told as text, and a summary of the conversation is not the user's.
_LEFT_OUT = frozenset({"thinking", "redacted_thinking", "compaction"})

# Data in text form, which costs many tokens and tells a model nothing.
# Looked for at the beginning of a run alone: from each place in it, many short ones would take seconds.
_DATA = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_=-]{200,}")


def blocks_of(content: str | list[JsonObject] | None) -> list[JsonObject]:
    """Content as a list of blocks, without empty texts: a string and a single text block are the same thing."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return [block for block in blocks if block["type"] != "text" or block["text"]]


def to_parts(blocks: list[JsonObject], target: Target) -> list[JsonObject]:
    """Content parts of blocks, none of them an empty text. Raises ApiError (400) for data that can't be used."""
    parts: list[JsonObject] = []
    for block in blocks:
        made = _PARTS.get(block["type"], _other)(block, target)
        # The parts of a document have been made here, level by level.
        parts += made if block["type"] == "document" else filter(_says_something, made)
    return parts


def to_tool_text(block: JsonObject, label: str, target: Target) -> tuple[str, list[JsonObject]]:
    """A tool_result as the text of a tool message, and the parts that a tool message can't hold (images, files).

    `label` names the result; it stands in the text where a part was, and before the part where that goes.
    """
    texts: list[str] = []
    attached: list[JsonObject] = []
    for part in to_parts(blocks_of(block.get("content")), target):
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        mark = f"[attachment {len(attached) // 2 + 1} of {label}]"
        texts.append(f"{mark} follows below")
        attached += [openai.text_part(f"{mark}:"), part]
    text = "\n".join(texts)
    return (f"Error: {text}" if block.get("is_error") else text), attached


def to_tool_content(
    block: JsonObject, label: str, target: Target
) -> tuple[str | list[JsonObject], list[JsonObject]]:
    """A tool_result as the content of a tool message, and the parts that it can't hold with this upstream."""
    parts = to_parts(blocks_of(block.get("content")), target) if target.dialect.tool_parts else []
    if any(part["type"] != "text" for part in parts):
        return ([openai.text_part("Error:"), *parts] if block.get("is_error") else parts), []
    text, attached = to_tool_text(block, label, target)
    marks = (
        cache_mark(each, target) for each in (block, *reversed(blocks_of(block.get("content"))))
    )
    mark = next((each for each in marks if each), None)
    # The providers that know marks refuse them where there is nothing to keep.
    return ([openai.text_part(text, mark)] if mark and text else text), attached


def cache_mark(block: JsonObject, target: Target) -> JsonObject | None:
    """The block's `cache_control`, for upstreams that know it. Who keeps it for how long is the upstream's to say."""
    mark = block.get("cache_control") if target.dialect.cache_control else None
    return mark if isinstance(mark, dict) else None


def to_json(value: Any) -> str:
    """What a model can read of a value of unknown shape: without marks of caching, and without data in text form."""
    return dumps(_readable(value)).decode()


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _readable(each) for name, each in value.items() if name != "cache_control"}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, str):
        return _DATA.sub(lambda data: f"[{len(data[0])} characters of data]", value)
    return value


def _text(block: JsonObject, target: Target) -> list[JsonObject]:
    return [openai.text_part(block["text"], cache_mark(block, target))]


def _image(block: JsonObject, _: Target) -> list[JsonObject]:
    return [image_part(block["source"])]


def _document(block: JsonObject, target: Target) -> list[JsonObject]:
    source, title = block["source"], block.get("title")
    head = "\n".join(
        text for text in (title and f"Document: {title}", block.get("context")) if text
    )
    if source["type"] == "content":
        body = to_parts(blocks_of(source["content"]), target)
    else:
        body = list(
            filter(_says_something, document_parts(source, title or "document.pdf", target))
        )
    parts = [openai.text_part(head), *body] if head else body
    return _marked(parts, cache_mark(block, target))


def _marked(parts: list[JsonObject], mark: JsonObject | None) -> list[JsonObject]:
    """Parts with the mark at their end; only a text can have one (OpenRouter)."""
    last = parts[-1] if parts else {}
    return (
        [*parts[:-1], openai.text_part(last["text"], mark)] if mark and last.get("text") else parts
    )


def _says_something(part: JsonObject) -> bool:
    return bool(part["type"] != "text" or part["text"])


def _search_result(block: JsonObject, target: Target) -> list[JsonObject]:
    lines = [f"Search result: {block['title']}", f"Source: {block['source']}"]
    text = "\n".join([*lines, *(each["text"] for each in block["content"])])
    return [openai.text_part(text, cache_mark(block, target))]


def _tool_reference(block: JsonObject, _: Target) -> list[JsonObject]:
    return [
        openai.text_part(
            f"Tool {to_upstream_name(block['tool_name'])} is loaded and can be called."
        )
    ]


def _browser_state(block: JsonObject, _: Target) -> list[JsonObject]:
    tabs = [
        f"- tab {tab['tab_id']}{' (active)' if tab.get('active') else ''}: {tab['title']} {tab['url']}"
        for tab in block["tabs"]
    ]
    changes = [f"- {_browser_change(change)}" for change in block.get("state_changes") or ()]
    lines = ["Browser tabs:", *(tabs or ["(none)"]), *(["Changes:", *changes] if changes else [])]
    return [openai.text_part("\n".join(lines))]


def _browser_change(change: JsonObject) -> str:
    """Such as `download_failed: download_id d1, url https://..., error timeout`."""
    facts = (
        f"{name} {value}" for name, value in change.items() if name != "type" and value is not None
    )
    return f"{change['type']}: {', '.join(facts)}"


def _other(block: JsonObject, target: Target) -> list[JsonObject]:
    if block["type"] in _LEFT_OUT:
        target.notes.ignored.add(f"content block {block['type']}")
    return (
        []
        if block["type"] in _LEFT_OUT.union(TOOL_CHANGE_TYPES)
        else [openai.text_part(to_json(block))]
    )


_PARTS: dict[str, Callable[[JsonObject, Target], list[JsonObject]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "browser_state": _browser_state,
}
