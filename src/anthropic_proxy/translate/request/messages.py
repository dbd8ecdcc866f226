"""Convert system prompt and messages to Chat Completions messages.

Chat Completions and the chat templates behind it require one system message first, alternating
roles, and the results of a turn's calls right after it, in order. So messages are first gathered
into turns (see turns.py), then each turn is converted.
"""

from dataclasses import dataclass, field

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.notes import build_unavailable_note
from anthropic_proxy.translate.reasoning.tool_call_signatures import (
    drop_call_signatures,
    restore_call_signatures,
)
from anthropic_proxy.translate.request.content import (
    find_cache_control,
    to_blocks,
    to_parts,
    to_tool_content,
    to_tool_text,
)
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.prefill import to_prefill_message
from anthropic_proxy.translate.request.tool_ids import ToolCallIds
from anthropic_proxy.translate.request.turns import (
    ACTIVITY_TEXT,
    SYSTEM_TEXT,
    THINKING_TYPES,
    to_turns,
)
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten

# Claude Code's first system block, or the first line where a gateway has joined them. It differs from one conversation to
# the next and, as the very first tokens, would spoil every prefix cache behind us.
_BILLING_HEADER = "x-anthropic-billing-header:"


@dataclass(frozen=True)
class ChatMessages:
    """The messages of the upstream's request."""

    messages: list[JsonObject]
    # text of a final assistant message, which the response continues
    prefill: str = ""
    # request fields that ask for the continuation
    fields: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    """A converted tool call, and the id that the caller knows."""

    tool_use_id: str
    tool_call: JsonObject


def to_chat_messages(request: JsonObject, context: TranslationContext) -> ChatMessages:
    """Return all messages of the upstream's request. Raises ApiError (400) when nothing is left to
    send.
    """
    leading, turns = to_turns(request["messages"], context)
    messages: list[JsonObject] = []
    calls: list[_Call] = []
    ids = ToolCallIds(context.profile.tool_call_ids)
    for turn in turns:
        if turn.role == "assistant":
            calls = _convert_calls(turn.blocks, ids)
            messages.append(_assistant_message(turn.blocks, calls, context))
        else:
            messages += _user_messages(turn.blocks, calls, context)
            calls = []
    messages += _missing_result_messages(calls, context)
    if not messages:
        raise invalid_request("messages: all messages are empty")
    system = _system_messages(to_blocks(request.get("system")) + leading, context)
    if turns[-1].role == "user" or calls:
        return ChatMessages([*system, *messages])
    prefill = _join_texts(turns[-1].blocks)
    if turns[-1].blocks[-1]["type"] != "text":
        return ChatMessages([*system, *messages], prefill)
    last, fields = to_prefill_message(messages[-1], prefill, context.profile.prefill)
    return ChatMessages([*system, *messages[:-1], last], prefill, fields)


def _system_messages(blocks: list[JsonObject], context: TranslationContext) -> list[JsonObject]:
    """Return one text; with cache marks, a part for each block."""
    parts = []
    for block in blocks:
        if block["type"] not in ("text", SYSTEM_TEXT):
            context.notes.ignored.add(f"system block {block['type']}")
        elif text := _strip_billing_header(block["text"]):
            parts.append(openai.text_part(text, find_cache_control(block, context)))
    note = build_unavailable_note(context.notes)
    parts += [openai.text_part(note)] if note else []
    if any("cache_control" in part for part in parts):
        return [openai.system_message(parts)]
    return [openai.system_message("\n\n".join(part["text"] for part in parts))] if parts else []


def _strip_billing_header(text: str) -> str:
    return text.partition("\n")[2].lstrip("\n") if text.startswith(_BILLING_HEADER) else text


def _convert_calls(blocks: list[JsonObject], ids: ToolCallIds) -> list[_Call]:
    return [
        _Call(
            block["id"],
            openai.tool_call(
                ids.assign_id(block["id"]),
                to_upstream_name(block["name"], block.get("toolset_name")),
                dumps(block["input"]).decode(),
            ),
        )
        for block in blocks
        if block["type"] == "tool_use"
    ]


def _assistant_message(
    blocks: list[JsonObject], calls: list[_Call], context: TranslationContext
) -> JsonObject:
    thinking = [block for block in blocks if block["type"] in THINKING_TYPES]
    message = openai.assistant_message(_join_texts(blocks), [call.tool_call for call in calls])
    replayed = context.signer.replay_reasoning(thinking, message)
    if not context.profile.tool_signatures:
        return drop_call_signatures(replayed)
    return restore_call_signatures(replayed, [call.tool_use_id for call in calls])


def _join_texts(blocks: list[JsonObject]) -> str:
    """Join text blocks without a separator; a blank line sets apart text about the assistant's
    actions.
    """
    pieces: list[str] = []
    is_activity = False
    for block in blocks:
        if block["type"] not in ("text", ACTIVITY_TEXT):
            continue
        if pieces and (is_activity or block["type"] is ACTIVITY_TEXT):
            pieces.append("\n\n")
        is_activity = block["type"] is ACTIVITY_TEXT
        pieces.append(block["text"])
    return "".join(pieces)


def _user_messages(
    blocks: list[JsonObject], calls: list[_Call], context: TranslationContext
) -> list[JsonObject]:
    """Return tool messages in the order of the calls, then their attachments, then the rest."""
    results: dict[str, list[JsonObject]] = {}
    for block in reversed(blocks):
        if block["type"] == "tool_result":
            results.setdefault(block["tool_use_id"], []).append(block)
    tool_messages: list[JsonObject] = []
    attachments: list[JsonObject] = []
    for call in calls:
        if not results.get(call.tool_use_id):
            tool_messages += _missing_result_messages([call], context)
            continue
        call_id = call.tool_call["id"]
        label = f"the result of {call.tool_call['function']['name']} ({call_id})"
        content, parts = to_tool_content(results[call.tool_use_id].pop(), label, context)
        tool_messages.append(_tool_message(call, content, context))
        attachments += parts
    orphan_ids = {id(result) for each in results.values() for result in each}
    orphans = [
        part
        for block in blocks
        if id(block) in orphan_ids
        for part in _orphan_parts(block, context)
    ]
    rest = [block for block in blocks if block["type"] != "tool_result"]
    return [*tool_messages, *_user_and_system_messages(attachments + orphans, rest, context)]


def _missing_result_messages(calls: list[_Call], context: TranslationContext) -> list[JsonObject]:
    """Return a result for each call without one; an interrupted client may have none."""
    return [_tool_message(call, "[no result]", context) for call in calls]


def _tool_message(
    call: _Call, content: str | list[JsonObject], context: TranslationContext
) -> JsonObject:
    name = {"name": call.tool_call["function"]["name"]} if context.profile.tool_result_names else {}
    return openai.tool_message(call.tool_call["id"], content) | name


def _orphan_parts(result: JsonObject, context: TranslationContext) -> list[JsonObject]:
    """Return the content of a result that belongs to no open call, as text for the model.

    Such a result can't be a tool message.
    """
    # The label precedes each of the result's images.
    label = f"another tool result, for call {shorten(result['tool_use_id'])}"
    text, attachments = to_tool_text(result, label, context)
    return [openai.text_part(f"[{label}]\n{text}"), *attachments]


def _user_and_system_messages(
    parts: list[JsonObject], rest: list[JsonObject], context: TranslationContext
) -> list[JsonObject]:
    """Return user and system messages for the rest of a user's turn, in order."""
    messages: list[JsonObject] = []
    for block in rest:
        if block["type"] is not SYSTEM_TEXT:
            parts += to_parts([block], context)
        elif context.profile.system_anywhere:
            messages += [openai.user_message(parts)] if parts else []
            messages.append(openai.system_message(block["text"]))
            parts = []
        else:
            parts.append(
                openai.text_part(f"<system-reminder>\n{block['text']}\n</system-reminder>")
            )
    return [*messages, openai.user_message(parts)] if parts else messages
