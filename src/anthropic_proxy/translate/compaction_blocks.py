"""Compaction blocks in the history of a conversation: each stands for everything before it.

The last block that holds a summary wins: its text opens the conversation as the user's, and what it replaces is left out.
A block without content is a compaction that failed; it means nothing. What the block says of tools that came and went
within the range becomes a system message of those changes, the form in which a conversation has them.
"""

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGES
from anthropic_proxy.wire.json_codec import JsonObject

_INTRODUCTION = (
    "The conversation so far was replaced by this summary of it. Go on from where it ends.\n\n"
)


def without_compaction_blocks(request: JsonObject) -> JsonObject:
    """The request in which summaries stand in the place of what they replace; the request itself if it has none."""
    messages: list[JsonObject] = request["messages"]
    places = [
        (number, place)
        for number, message in enumerate(messages)
        for place, block in enumerate(_blocks(message))
        if block["type"] == "compaction"
    ]
    if not places:
        return request
    summaries = [
        (number, place)
        for number, place in places
        if _blocks(messages[number])[place].get("content")
    ]
    if not summaries:
        return {**request, "messages": [_without_blocks(message, 0) for message in messages]}
    number, place = summaries[-1]
    block = _blocks(messages[number])[place]
    rest = [
        _without_blocks(messages[number], place + 1),
        *(_without_blocks(each, 0) for each in messages[number + 1 :]),
    ]
    return {**request, "messages": [*_summary(block), *rest]}


def _summary(block: JsonObject) -> list[JsonObject]:
    said = {
        "role": "user",
        "content": [{"type": "text", "text": f"{_INTRODUCTION}{block['content']}"}],
    }
    changes = [
        change for change in block.get("tool_changes") or () if change["type"] in TOOL_CHANGES
    ]
    return [said, {"role": "system", "content": changes}] if changes else [said]


def _without_blocks(message: JsonObject, start: int) -> JsonObject:
    """The message from the block number `start` on, without compaction blocks."""
    if not start and not any(block["type"] == "compaction" for block in _blocks(message)):
        return message
    return {
        **message,
        "content": [block for block in _blocks(message)[start:] if block["type"] != "compaction"],
    }


def _blocks(message: JsonObject) -> list[JsonObject]:
    content = message.get("content")
    return content if isinstance(content, list) else []
