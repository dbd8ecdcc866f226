"""Gather messages into turns, and replace blocks that have no form upstream.

The Messages API accepts several messages of one role in a row, system messages anywhere, and blocks
of any kind on either side. A turn holds few kinds: see `ConversationTurn`.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.request import server_tool_blocks
from anthropic_proxy.translate.request.content import to_blocks, to_tool_text
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

# Block types of text from a system message, and of text about the assistant's actions. No client can send them.
SYSTEM_TEXT: Any = object()
ACTIVITY_TEXT: Any = object()

THINKING_TYPES = frozenset({"thinking", "redacted_thinking"})

_SILENT_TYPES = server_tool_blocks.SILENT_TYPES.union(TOOL_CHANGE_TYPES)
_DESCRIBED_TYPES = frozenset(
    {"image", "document", "search_result", "tool_reference", "browser_state"}
)


@dataclass
class ConversationTurn:
    """Neighbouring messages of one side. A system message within the conversation belongs to the
    user's side.

    Assistant blocks are text, ACTIVITY_TEXT, THINKING_TYPES and tool_use; user blocks are any but
    those of server tools.
    """

    role: str
    blocks: list[JsonObject] = field(default_factory=list)


def to_turns(
    messages: list[JsonObject], context: TranslationContext
) -> tuple[list[JsonObject], list[ConversationTurn]]:
    """Return the blocks of leading system messages, and the turns of the conversation. Raises
    ApiError (400).
    """
    leading: list[JsonObject] = []
    turns: list[ConversationTurn] = []
    last_user = max(
        (number for number, message in enumerate(messages) if message["role"] == "user"), default=-1
    )
    for index, message in enumerate(messages):
        if message.get("clear_at") == "next_user_message" and index < last_user:
            continue
        blocks = _convert_message(message, index, context)
        if message["role"] == "system" and not turns:
            leading += blocks
        elif blocks:
            _append_blocks(turns, "assistant" if message["role"] == "assistant" else "user", blocks)
    return leading, turns


def _append_blocks(turns: list[ConversationTurn], role: str, blocks: list[JsonObject]) -> None:
    if not turns or turns[-1].role != role:
        turns.append(ConversationTurn(role))
    elif role == "assistant" and turns[-1].blocks[-1]["type"] == blocks[0]["type"] == "text":
        blocks = [{"type": "text", "text": "\n\n"}, *blocks]
    turns[-1].blocks += blocks


def _convert_message(
    message: JsonObject, message_index: int, context: TranslationContext
) -> list[JsonObject]:
    content = message.get("content")
    if message["role"] == "assistant":
        return [
            converted
            for block in to_blocks(content)
            for converted in _assistant_blocks(block, context)
        ]
    if message["role"] == "system":
        return [
            {**block, "type": SYSTEM_TEXT} if block["type"] == "text" else block
            for block in to_blocks(content)
            if block["type"] not in _SILENT_TYPES
        ]
    _reject_uploads(content, message_index)
    return [
        _user_block(block, context)
        for block in to_blocks(content)
        if block["type"] not in _SILENT_TYPES
    ]


def _user_block(block: JsonObject, context: TranslationContext) -> JsonObject:
    if server_tool_blocks.is_server_tool_block(block):
        return {"type": "text", "text": server_tool_blocks.describe_block(block, context)}
    return block


def _assistant_blocks(block: JsonObject, context: TranslationContext) -> list[JsonObject]:
    """Return an assistant block in a form that the upstream accepts; empty when there is none."""
    kind = block["type"]
    if kind in ("text", "tool_use"):
        return [block]
    if kind in THINKING_TYPES:
        return (
            [block]
            if context.profile.replays_reasoning and context.signer.can_replay(block)
            else []
        )
    description = _describe_block(block, context)
    if not description and kind not in _SILENT_TYPES:
        context.notes.ignored.add(f"content block {kind}")
    return [{"type": ACTIVITY_TEXT, "text": description}] if description else []


def _describe_block(block: JsonObject, context: TranslationContext) -> str:
    """Return an assistant block that is no text as text.

    Empty for unknown blocks: the model would imitate them as its words.
    """
    kind = block["type"]
    if server_tool_blocks.is_server_tool_block(block):
        return server_tool_blocks.describe_block(block, context)
    if kind == "container_upload":
        return f"[file {block.get('file_id')} in the container]"
    if kind == "tool_result":
        return to_tool_text(block, "a result", context.without_files())[0]
    return server_tool_blocks.render_as_text(block, context) if kind in _DESCRIBED_TYPES else ""


def _reject_uploads(content: Any, message_index: int) -> None:
    for block_index, block in enumerate(content if isinstance(content, list) else ()):
        if block["type"] == "container_upload":
            raise invalid_request(
                f"messages.{message_index}.content.{block_index}: a container_upload can't be used: this server keeps no "
                "files and runs no container; send the file's content as a document or an image"
            )
