"""Group messages into turns, and replace blocks that upstreams do not support.

The Messages API accepts consecutive messages with the same role, system messages anywhere, and
blocks of any type in all messages. Turns alternate between user and assistant, and contain only a
few types of blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.request.content import to_blocks, to_tool_text
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.server_tool_blocks import (
    DESCRIBERS,
    SILENT_TYPES,
    render_as_text,
)
from anthropic_proxy.wire.anthropic.claude_code import strip_billing_header
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_THINKING_TYPES = frozenset({"thinking", "redacted_thinking"})
_DROPPED_TYPES = SILENT_TYPES.union(TOOL_CHANGE_TYPES)
_RENDERED_TYPES = frozenset(
    {"image", "document", "search_result", "tool_reference", "browser_state"}
)


@dataclass(frozen=True)
class SystemText:
    """Text of a system message within the conversation."""

    text: str


@dataclass
class UserTurn:
    """Consecutive user messages, with the system messages between and after them."""

    # `tool_result` blocks
    results: list[JsonObject] = field(default_factory=list)
    # the other blocks, in order
    content: list[JsonObject | SystemText] = field(default_factory=list)

    def add_block(self, block: JsonObject) -> None:
        if block["type"] == "tool_result":
            self.results.append(block)
        else:
            self.content.append(block)


@dataclass
class AssistantTurn:
    """Consecutive assistant messages."""

    thinking: list[JsonObject] = field(default_factory=list)
    # `tool_use` blocks
    calls: list[JsonObject] = field(default_factory=list)
    # whether the last block is text, which the response can continue
    ends_with_text: bool = False
    _texts: list[str] = field(default_factory=list)
    # whether a blank line separates the next text from the text before it
    _separates_text: bool = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def begin_message(self) -> None:
        """Separate the text of a new message from the text of the messages before it."""
        if self._texts:
            self._separates_text = True

    def add_block(self, block: JsonObject) -> None:
        """Add a block with text, thinking or a tool use.

        Text blocks of one message are joined without a separator, also around thinking and calls:
        they are pieces of one text of the upstream.
        """
        kind = block["type"]
        if kind == "text":
            self._add_text(block["text"])
        elif kind == "tool_use":
            self.calls.append(block)
        else:
            self.thinking.append(block)
        self.ends_with_text = kind == "text"

    def _add_text(self, text: str) -> None:
        if not text:
            return
        if self._separates_text:
            self._texts.append("\n\n")
        self._texts.append(text)
        self._separates_text = False

    def add_activity(self, description: str) -> None:
        """Add a description of the assistant's actions, separated by blank lines."""
        if self._texts:
            self._texts.append("\n\n")
        self._texts.append(description)
        self._separates_text = True
        self.ends_with_text = False


Turn = UserTurn | AssistantTurn


def to_turns(
    messages: list[JsonObject], context: TranslationContext
) -> tuple[list[JsonObject], list[Turn]]:
    """Return the blocks of leading system messages, and the turns of the conversation.

    Raises ApiError (400) for blocks that cannot be translated.
    """
    leading: list[JsonObject] = []
    turns: list[Turn] = []
    last_user = _find_last_user(messages)
    for index, message in enumerate(messages):
        if message.get("clear_at") == "next_user_message" and index < last_user:
            continue
        if message["role"] == "assistant":
            _add_assistant_message(turns, message, context)
        elif message["role"] == "system" and not turns:
            leading += _iterate_kept_blocks(message)
        elif message["role"] == "system":
            _add_system_message(turns, message)
        else:
            _reject_uploads(message, index)
            _add_user_message(turns, message, context)
    return leading, turns


def _find_last_user(messages: list[JsonObject]) -> int:
    for index in reversed(range(len(messages))):
        if messages[index]["role"] == "user":
            return index
    return -1


def _iterate_kept_blocks(message: JsonObject) -> Iterator[JsonObject]:
    """Yield the blocks of a user or system message that are content for the model."""
    for block in to_blocks(message.get("content")):
        if block["type"] not in _DROPPED_TYPES:
            yield block


def _add_assistant_message(
    turns: list[Turn], message: JsonObject, context: TranslationContext
) -> None:
    if turns and isinstance(turns[-1], AssistantTurn):
        turns[-1].begin_message()
    for block in to_blocks(message.get("content")):
        if _is_sendable(block, context):
            _get_assistant_turn(turns).add_block(block)
        elif description := _describe_assistant_block(block, context):
            _get_assistant_turn(turns).add_activity(description)


def _add_system_message(turns: list[Turn], message: JsonObject) -> None:
    for block in _iterate_kept_blocks(message):
        if block["type"] != "text":
            _get_user_turn(turns).add_block(block)
            continue
        text = strip_billing_header(block["text"])
        if text:
            _get_user_turn(turns).content.append(SystemText(text))


def _add_user_message(turns: list[Turn], message: JsonObject, context: TranslationContext) -> None:
    for block in _iterate_kept_blocks(message):
        turn = _get_user_turn(turns)
        describe = DESCRIBERS.get(block["type"])
        if describe is None:
            turn.add_block(block)
        else:
            turn.content.append({"type": "text", "text": describe(block, context)})


def _get_assistant_turn(turns: list[Turn]) -> AssistantTurn:
    """Return the last turn if it is the assistant's, or append a new turn."""
    turn = turns[-1] if turns else None
    if not isinstance(turn, AssistantTurn):
        turn = AssistantTurn()
        turns.append(turn)
    return turn


def _get_user_turn(turns: list[Turn]) -> UserTurn:
    """Return the last turn if it is the user's, or append a new turn."""
    turn = turns[-1] if turns else None
    if not isinstance(turn, UserTurn):
        turn = UserTurn()
        turns.append(turn)
    return turn


def _is_sendable(block: JsonObject, context: TranslationContext) -> bool:
    """Return whether the upstream supports an assistant block."""
    if block["type"] in _THINKING_TYPES:
        return context.profile.replays_reasoning and context.signer.can_replay(block)
    return block["type"] in ("text", "tool_use")


def _describe_assistant_block(block: JsonObject, context: TranslationContext) -> str:
    """Return the text for an unsupported assistant block; empty if the block is dropped.

    Unknown blocks are dropped, because the model would imitate their text.
    """
    kind = block["type"]
    if kind in _THINKING_TYPES:
        return ""
    if kind in DESCRIBERS:
        description = DESCRIBERS[kind](block, context)
    elif kind == "container_upload":
        description = f"[file {block.get('file_id')} in the container]"
    elif kind == "tool_result":
        description, _ = to_tool_text(block, "a result", context.without_files())
    elif kind in _RENDERED_TYPES:
        description = render_as_text(block, context)
    else:
        description = ""
    if not description and kind not in _DROPPED_TYPES:
        context.notes.ignored.add(f"content block {kind}")
    return description


def _reject_uploads(message: JsonObject, message_index: int) -> None:
    content = message.get("content")
    if not isinstance(content, list):
        return
    for block_index, block in enumerate(content):
        if block["type"] == "container_upload":
            raise invalid_request(
                f"messages.{message_index}.content.{block_index}: container_upload is not "
                "supported, because this server does not store files or run containers: send the "
                "file as a document or an image"
            )
