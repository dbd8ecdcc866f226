"""Messages gathered into turns: neighbours of one side are one, and what has no form upstream becomes words, or goes.

The Messages API takes messages as they come: several of one role in a row, system messages anywhere, blocks of any kind on
either side. What a turn holds afterwards is few: see `Turn`.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.request import server_tool_blocks
from anthropic_proxy.translate.request.content import blocks_of, to_tool_text
from anthropic_proxy.translate.request.context import Target
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

# The types of a text that came in a system message, and of one that tells what the assistant did. No client can send them.
SYSTEM_TEXT: Any = object()
TOLD_TEXT: Any = object()

THINKING = frozenset({"thinking", "redacted_thinking"})

_SILENT = server_tool_blocks.SILENT.union(TOOL_CHANGE_TYPES)
_IN_WORDS = frozenset({"image", "document", "search_result", "tool_reference", "browser_state"})


@dataclass
class Turn:
    """Neighbouring messages of one side. A system message within the conversation belongs to the user's side.

    An assistant's blocks are text, TOLD_TEXT, THINKING and tool_use; a user's any but those of servers' tools.
    """

    role: str
    blocks: list[JsonObject] = field(default_factory=list)


def to_turns(messages: list[JsonObject], target: Target) -> tuple[list[JsonObject], list[Turn]]:
    """Blocks of the system messages that come first, and the turns of the conversation. Raises ApiError (400)."""
    leading: list[JsonObject] = []
    turns: list[Turn] = []
    last_user = max(
        (number for number, message in enumerate(messages) if message["role"] == "user"), default=-1
    )
    for number, message in enumerate(messages):
        if message.get("clear_at") == "next_user_message" and number < last_user:
            continue
        blocks = _blocks(message, number, target)
        if message["role"] == "system" and not turns:
            leading += blocks
        elif blocks:
            _add(turns, "assistant" if message["role"] == "assistant" else "user", blocks)
    return leading, turns


def _add(turns: list[Turn], role: str, blocks: list[JsonObject]) -> None:
    if not turns or turns[-1].role != role:
        turns.append(Turn(role))
    elif role == "assistant" and turns[-1].blocks[-1]["type"] == blocks[0]["type"] == "text":
        blocks = [{"type": "text", "text": "\n\n"}, *blocks]
    turns[-1].blocks += blocks


def _blocks(message: JsonObject, number: int, target: Target) -> list[JsonObject]:
    content = message.get("content")
    if message["role"] == "assistant":
        return [said for block in blocks_of(content) for said in _said(block, target)]
    if message["role"] == "system":
        return [
            {**block, "type": SYSTEM_TEXT} if block["type"] == "text" else block
            for block in blocks_of(content)
            if block["type"] not in _SILENT
        ]
    _refuse_uploads(content, number)
    return [_asked(block, target) for block in blocks_of(content) if block["type"] not in _SILENT]


def _asked(block: JsonObject, target: Target) -> JsonObject:
    if server_tool_blocks.is_server_block(block):
        return {"type": "text", "text": server_tool_blocks.to_text(block, target)}
    return block


def _said(block: JsonObject, target: Target) -> list[JsonObject]:
    """A block of an assistant message as the upstream can be told it; nothing where it can't."""
    kind = block["type"]
    if kind in ("text", "tool_use"):
        return [block]
    if kind in THINKING:
        return (
            [block] if target.dialect.replays_reasoning and target.signer.can_replay(block) else []
        )
    words = _words(block, target)
    if not words and kind not in _SILENT:
        target.notes.ignored.add(f"content block {kind}")
    return [{"type": TOLD_TEXT, "text": words}] if words else []


def _words(block: JsonObject, target: Target) -> str:
    """What an assistant's block says, where it is no text; empty for blocks that nobody knows: said as the model's own
    words, they would be imitated.
    """
    kind = block["type"]
    if server_tool_blocks.is_server_block(block):
        return server_tool_blocks.to_text(block, target)
    if kind == "container_upload":
        return f"[file {block.get('file_id')} in the container]"
    if kind == "tool_result":
        return to_tool_text(block, "a result", target.without_files())[0]
    return server_tool_blocks.as_words(block, target) if kind in _IN_WORDS else ""


def _refuse_uploads(content: Any, number: int) -> None:
    for place, block in enumerate(content if isinstance(content, list) else ()):
        if block["type"] == "container_upload":
            raise invalid_request(
                f"messages.{number}.content.{place}: a container_upload can't be used: this server keeps no files and runs "
                "no container; send the file's content as a document or an image"
            )
