"""Expand compaction blocks, which replace all earlier messages of a conversation.

The last block with a summary counts: its text becomes the first user message, and the earlier
messages are dropped. A block without content is a failed compaction and has no effect. The tool
changes of a block become a system message.

The gateway expands the blocks first: context edits, compaction, estimates and the translation
expect requests without compaction blocks.
"""

from typing import Any

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_INTRODUCTION = "This summary replaces the conversation so far. Continue from where it ends.\n\n"


def expand_compaction_blocks(request: JsonObject) -> JsonObject:
    """Replace the messages before the last summary by its text.

    Returns the same request if it has no compaction block.
    """
    messages: list[JsonObject] = request["messages"]
    has_compaction = False
    expanded: list[JsonObject] = []
    for message in messages:
        blocks = get_blocks(message)
        if not any(block["type"] == "compaction" for block in blocks):
            expanded.append(message)
            continue
        has_compaction = True
        rest: list[JsonObject] = []
        for block in blocks:
            if block["type"] != "compaction":
                rest.append(block)
            elif block.get("content"):
                expanded = _build_summary_messages(block)
                rest = []
        expanded.append({**message, "content": rest})
    return {**request, "messages": expanded} if has_compaction else request


def get_blocks(message: JsonObject) -> list[Any]:
    """Return the blocks of a message; none if its content is a string."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def _build_summary_messages(block: JsonObject) -> list[JsonObject]:
    text = f"{_INTRODUCTION}{block['content']}"
    messages: list[JsonObject] = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    tool_changes = []
    for change in block.get("tool_changes") or ():
        if change["type"] in TOOL_CHANGE_TYPES:
            tool_changes.append(change)
    if tool_changes:
        messages.append({"role": "system", "content": tool_changes})
    return messages
