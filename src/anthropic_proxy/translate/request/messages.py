"""Convert the system prompt and the messages to Chat Completions messages.

Servers and their chat templates require one system message at the beginning, alternating roles, and
the results of tool calls directly after the calls, in the same order. So messages are first grouped
into turns (see turns.py), then each turn is converted.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from functools import partial

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.notes import build_unavailable_note
from anthropic_proxy.translate.reasoning.tool_call_signatures import (
    drop_call_signatures,
    restore_call_signatures,
)
from anthropic_proxy.translate.request.cache_marks import find_cache_mark
from anthropic_proxy.translate.request.content import (
    to_blocks,
    to_parts,
    to_tool_content,
    to_tool_text,
)
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.prefill import to_prefill_message
from anthropic_proxy.translate.request.tool_ids import IdForm, ToolCallIds
from anthropic_proxy.translate.request.turns import (
    AssistantTurn,
    SystemText,
    Turn,
    UserTurn,
    to_turns,
)
from anthropic_proxy.translate.tool_calls.native_ids import restore_native_id
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.claude_code import strip_billing_header
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten


@dataclass(frozen=True)
class ChatMessages:
    """The messages of the upstream's request."""

    messages: list[JsonObject]
    # text of a final assistant message, which the response continues
    prefill: str = ""
    # request fields that make the upstream continue it
    fields: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    """A converted tool call."""

    # the client's id
    tool_use_id: str
    # unique in the conversation
    upstream_id: str
    upstream_name: str
    arguments: str

    def to_tool_call(self) -> JsonObject:
        return openai.tool_call(self.upstream_id, self.upstream_name, self.arguments)


def to_chat_messages(request: JsonObject, context: TranslationContext) -> ChatMessages:
    """Return all messages of the upstream's request.

    Raises ApiError (400) for invalid messages, and if all messages are empty.
    """
    leading, turns = to_turns(request["messages"], context)
    messages: list[JsonObject] = []
    # The calls of the last assistant turn, whose results must follow.
    open_calls: list[_Call] = []
    ids = ToolCallIds(_choose_id_form(turns, context))
    for turn in turns:
        if isinstance(turn, AssistantTurn):
            open_calls = _convert_calls(turn, ids)
            messages.append(_assistant_message(turn, open_calls, context))
        else:
            messages += _user_messages(turn, open_calls, context)
            open_calls = []
    for call in open_calls:
        messages.append(_missing_result_message(call, context))
    if not messages:
        raise invalid_request("messages: all messages are empty")
    messages = _system_messages(to_blocks(request.get("system")) + leading, context) + messages
    last_turn = turns[-1]
    if isinstance(last_turn, UserTurn) or open_calls:
        return ChatMessages(messages)
    if not last_turn.ends_with_text:
        return ChatMessages(messages, last_turn.text)
    last, fields = to_prefill_message(messages[-1], last_turn.text, context.profile.prefill)
    return ChatMessages([*messages[:-1], last], last_turn.text, fields)


def _system_messages(blocks: list[JsonObject], context: TranslationContext) -> list[JsonObject]:
    """Return one system message, or none. Its content has parts only if there are cache marks."""
    parts: list[JsonObject] = []
    for block in blocks:
        if block["type"] != "text":
            context.notes.ignored.add(f"system block {block['type']}")
            continue
        text = strip_billing_header(block["text"])
        if text:
            parts.append(openai.text_part(text, find_cache_mark(block, context.profile)))
    note = build_unavailable_note(context.notes)
    if note:
        parts.append(openai.text_part(note))
    if not parts:
        return []
    joined_text = openai.join_texts(parts)
    return [openai.system_message(parts if joined_text is None else joined_text)]


def _choose_id_form(turns: list[Turn], context: TranslationContext) -> IdForm:
    """Return the form of call ids: the model's own form if it wrote a call of the conversation."""
    form = context.profile.tool_call_ids
    if form != "native":
        return form
    for turn in turns:
        for block in turn.calls if isinstance(turn, AssistantTurn) else ():
            if restore_native_id(block["id"], _get_upstream_name(block)):
                return "numbered"
    return "plain"


def _convert_calls(turn: AssistantTurn, ids: ToolCallIds) -> list[_Call]:
    calls: list[_Call] = []
    for block in turn.calls:
        name = _get_upstream_name(block)
        calls.append(
            _Call(
                tool_use_id=block["id"],
                upstream_id=ids.assign_id(block["id"], name),
                upstream_name=name,
                arguments=dumps(block["input"]).decode(),
            )
        )
    return calls


def _get_upstream_name(block: JsonObject) -> str:
    return to_upstream_name(block["name"], block.get("toolset_name"))


def _assistant_message(
    turn: AssistantTurn, calls: list[_Call], context: TranslationContext
) -> JsonObject:
    message = openai.assistant_message(turn.text, [call.to_tool_call() for call in calls])
    if turn.thinking:
        message = context.signer.replay_reasoning(turn.thinking, message)
    if context.profile.tool_signatures:
        return restore_call_signatures(message, [call.tool_use_id for call in calls])
    if turn.thinking:
        return drop_call_signatures(message)
    return message


def _user_messages(
    turn: UserTurn, calls: list[_Call], context: TranslationContext
) -> list[JsonObject]:
    """Return the tool messages in the order of the calls, then their attachments and the rest."""
    results, orphans = _assign_results(turn.results, calls)
    tool_messages: list[JsonObject] = []
    attachments: list[JsonObject] = []
    for call in calls:
        result = results.get(call.upstream_id)
        if result is None:
            tool_messages.append(_missing_result_message(call, context))
            continue
        label = f"the result of {call.upstream_name} ({call.upstream_id})"
        content, parts = to_tool_content(result, label, context)
        tool_messages.append(_tool_message(call, content, context))
        attachments += parts
    for orphan in orphans:
        attachments += _orphan_parts(orphan, context)
    return tool_messages + _content_messages(attachments, turn.content, context)


def _assign_results(
    results: list[JsonObject], calls: list[_Call]
) -> tuple[dict[str, JsonObject], list[JsonObject]]:
    """Return the results by the upstream's call id, and the results without an open call.

    If calls share a `tool_use_id`, their results are in the order of the calls.
    """
    open_calls: defaultdict[str, deque[_Call]] = defaultdict(deque)
    for call in calls:
        open_calls[call.tool_use_id].append(call)
    assigned: dict[str, JsonObject] = {}
    orphans: list[JsonObject] = []
    for result in results:
        matching_calls = open_calls.get(result["tool_use_id"])
        if matching_calls:
            assigned[matching_calls.popleft().upstream_id] = result
        else:
            orphans.append(result)
    return assigned, orphans


def _missing_result_message(call: _Call, context: TranslationContext) -> JsonObject:
    """Return a placeholder for a missing result; an interrupted client may omit results."""
    return _tool_message(call, "[no result]", context)


def _tool_message(
    call: _Call, content: str | list[JsonObject], context: TranslationContext
) -> JsonObject:
    message = openai.tool_message(call.upstream_id, content)
    if context.profile.tool_result_names:
        message["name"] = call.upstream_name
    return message


def _orphan_parts(result: JsonObject, context: TranslationContext) -> list[JsonObject]:
    """Return the content of a result without an open call as user content.

    Upstreams refuse tool messages without a call.
    """
    # The label precedes each of the result's images.
    label = f"another tool result, for call {shorten(result['tool_use_id'])}"
    text, attachments = to_tool_text(result, label, context)
    return [openai.text_part(f"[{label}]\n{text}"), *attachments]


def _content_messages(
    attachments: list[JsonObject],
    content: list[JsonObject | SystemText],
    context: TranslationContext,
) -> list[JsonObject]:
    """Return user and system messages for the attachments and the content of a user turn."""
    messages: list[JsonObject] = []
    parts = list(attachments)
    # Where the client marks what is cached, the marks move from turn to turn. The other parts must
    # then stay parts, or the cached prefix of the conversation would change.
    to_message = partial(openai.user_message, joins_texts=not context.keeps_parts)
    for block in content:
        if not isinstance(block, SystemText):
            parts += to_parts([block], context)
        elif not context.profile.system_anywhere:
            reminder = f"<system-reminder>\n{block.text}\n</system-reminder>"
            parts.append(openai.text_part(reminder))
        else:
            if parts:
                messages.append(to_message(parts))
            messages.append(openai.system_message(block.text))
            parts = []
    if parts:
        messages.append(to_message(parts))
    return messages
