"""Compaction blocks in the history of a conversation: each stands for everything before it.

The last block that holds a summary wins: its text opens the conversation as the user's, and what it replaces is left out.
A block without content is a compaction that failed; it means nothing. What the block says of tools that came and went
within the range becomes a system message of those changes, the form in which a conversation has them.

The gateway expands the blocks once, before anything else reads the conversation: context edits, compaction, estimates and
the translation expect requests without them.
"""

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_INTRODUCTION = (
    "The conversation so far was replaced by this summary of it. Go on from where it ends.\n\n"
)


def expand_compaction_blocks(request: JsonObject) -> JsonObject:
    """Replace the messages before the last summary with its text; return the request itself if it has no summary."""
    messages: list[JsonObject] = request["messages"]
    positions = [
        (message_index, block_index)
        for message_index, message in enumerate(messages)
        for block_index, block in enumerate(_get_blocks(message))
        if block["type"] == "compaction"
    ]
    if not positions:
        return request
    summaries = [
        (message_index, block_index)
        for message_index, block_index in positions
        if _get_blocks(messages[message_index])[block_index].get("content")
    ]
    if not summaries:
        return {
            **request,
            "messages": [_drop_compaction_blocks(message, 0) for message in messages],
        }
    message_index, block_index = summaries[-1]
    block = _get_blocks(messages[message_index])[block_index]
    rest = [
        _drop_compaction_blocks(messages[message_index], block_index + 1),
        *(_drop_compaction_blocks(each, 0) for each in messages[message_index + 1 :]),
    ]
    return {**request, "messages": [*_build_summary_messages(block), *rest]}


def _build_summary_messages(block: JsonObject) -> list[JsonObject]:
    summary_message = {
        "role": "user",
        "content": [{"type": "text", "text": f"{_INTRODUCTION}{block['content']}"}],
    }
    changes = [
        change for change in block.get("tool_changes") or () if change["type"] in TOOL_CHANGE_TYPES
    ]
    return (
        [summary_message, {"role": "system", "content": changes}] if changes else [summary_message]
    )


def _drop_compaction_blocks(message: JsonObject, start: int) -> JsonObject:
    """Return the message from block `start` on, without compaction blocks."""
    if not start and not any(block["type"] == "compaction" for block in _get_blocks(message)):
        return message
    return {
        **message,
        "content": [
            block for block in _get_blocks(message)[start:] if block["type"] != "compaction"
        ],
    }


def _get_blocks(message: JsonObject) -> list[JsonObject]:
    content = message.get("content")
    return content if isinstance(content, list) else []
