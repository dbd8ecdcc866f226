"""Expand compaction blocks: each replaces everything before it in the conversation.

The last block that holds a summary wins: its text opens the conversation as the user's, and the
messages before it are left out. A block without content is a failed compaction and has no effect.
The tool changes that a block lists become a system message, the form in which a conversation has
them.

The gateway expands the blocks once, before anything else reads the conversation: context edits,
compaction, estimates and the translation expect requests without them.
"""

from typing import Any

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_INTRODUCTION = (
    "The conversation so far was replaced by this summary of it. Go on from where it ends.\n\n"
)


def expand_compaction_blocks(request: JsonObject) -> JsonObject:
    """Replace the messages before the last summary with its text.

    Returns the request itself if it has no compaction block.
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
    """Return the blocks of a message; none if its content is a text."""
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
