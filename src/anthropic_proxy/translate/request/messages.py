"""system and messages -> Chat Completions messages.

Chat Completions and the chat templates behind it want one system message first, roles that alternate, and the results of
a turn's calls right after them, in their order. So messages are first gathered into turns (see turns.py), then each turn
is written.
"""

from dataclasses import dataclass, field

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.reasoning.tool_call_signatures import (
    drop_call_signatures,
    restore_call_signatures,
)
from anthropic_proxy.translate.request.content import (
    blocks_of,
    cache_mark,
    to_parts,
    to_tool_content,
    to_tool_text,
)
from anthropic_proxy.translate.request.context import Target
from anthropic_proxy.translate.request.prefill import to_prefill
from anthropic_proxy.translate.request.server_tools import unavailable_note
from anthropic_proxy.translate.request.tool_ids import ToolIds
from anthropic_proxy.translate.request.turns import SYSTEM_TEXT, THINKING, TOLD_TEXT, to_turns
from anthropic_proxy.translate.tool_names import to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten

# Claude Code's first system block, or the first line where a gateway has joined them. It differs from one conversation to
# the next and, as the very first tokens, would spoil every prefix cache behind us.
_BILLING_HEADER = "x-anthropic-billing-header:"


@dataclass(frozen=True)
class Written:
    """messages: of the upstream's request. prefill: what the assistant has said where the conversation ends with it; when
    that was text, the answer goes on from there. fields: of the request, that ask for it.
    """

    messages: list[JsonObject]
    prefill: str = ""
    fields: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    """A tool call as it was written, and the id that the client knows it by."""

    tool_use_id: str
    written: JsonObject


def to_messages(request: JsonObject, target: Target) -> Written:
    """All messages of the upstream's request. Raises ApiError (400) when nothing is left to answer."""
    leading, turns = to_turns(request["messages"], target)
    written: list[JsonObject] = []
    calls: list[_Call] = []
    ids = ToolIds(target.dialect.tool_call_ids)
    for turn in turns:
        if turn.role == "assistant":
            calls = _calls(turn.blocks, ids)
            written.append(_assistant(turn.blocks, calls, target))
        else:
            written += _user(turn.blocks, calls, target)
            calls = []
    written += _missing_results(calls, target)
    if not written:
        raise invalid_request("messages: all messages are empty")
    system = _system(blocks_of(request.get("system")) + leading, target)
    if turns[-1].role == "user" or calls:
        return Written([*system, *written])
    begun = _said(turns[-1].blocks)
    if turns[-1].blocks[-1]["type"] != "text":
        return Written([*system, *written], begun)
    last, fields = to_prefill(written[-1], begun, target.dialect.prefill)
    return Written([*system, *written[:-1], last], begun, fields)


def _system(blocks: list[JsonObject], target: Target) -> list[JsonObject]:
    """One text; where marks of caching count, a part for each block, if any of them has one."""
    parts = []
    for block in blocks:
        if block["type"] not in ("text", SYSTEM_TEXT):
            target.notes.ignored.add(f"system block {block['type']}")
        elif text := _without_billing_header(block["text"]):
            parts.append(openai.text_part(text, cache_mark(block, target)))
    note = unavailable_note(target.notes)
    parts += [openai.text_part(note)] if note else []
    if any("cache_control" in part for part in parts):
        return [openai.system_message(parts)]
    return [openai.system_message("\n\n".join(part["text"] for part in parts))] if parts else []


def _without_billing_header(text: str) -> str:
    return text.partition("\n")[2].lstrip("\n") if text.startswith(_BILLING_HEADER) else text


def _calls(blocks: list[JsonObject], ids: ToolIds) -> list[_Call]:
    return [
        _Call(
            block["id"],
            openai.tool_call(
                ids.upstream_id(block["id"]),
                to_upstream_name(block["name"], block.get("toolset_name")),
                dumps(block["input"]).decode(),
            ),
        )
        for block in blocks
        if block["type"] == "tool_use"
    ]


def _assistant(blocks: list[JsonObject], calls: list[_Call], target: Target) -> JsonObject:
    thinking = [block for block in blocks if block["type"] in THINKING]
    message = openai.assistant_message(_said(blocks), [call.written for call in calls])
    replayed = target.signer.replay_reasoning(thinking, message)
    if not target.dialect.tool_signatures:
        return drop_call_signatures(replayed)
    return restore_call_signatures(replayed, [call.tool_use_id for call in calls])


def _said(blocks: list[JsonObject]) -> str:
    """Text blocks are pieces of one text; what tells of the assistant's doings stands apart from it."""
    pieces: list[str] = []
    told = False
    for block in blocks:
        if block["type"] not in ("text", TOLD_TEXT):
            continue
        if pieces and (told or block["type"] is TOLD_TEXT):
            pieces.append("\n\n")
        told = block["type"] is TOLD_TEXT
        pieces.append(block["text"])
    return "".join(pieces)


def _user(blocks: list[JsonObject], calls: list[_Call], target: Target) -> list[JsonObject]:
    """Tool messages in the order of the calls, then what they could not hold, then the rest."""
    results: dict[str, list[JsonObject]] = {}
    for block in reversed(blocks):
        if block["type"] == "tool_result":
            results.setdefault(block["tool_use_id"], []).append(block)
    tool_messages: list[JsonObject] = []
    attached: list[JsonObject] = []
    for call in calls:
        if not results.get(call.tool_use_id):
            tool_messages += _missing_results([call], target)
            continue
        call_id = call.written["id"]
        label = f"the result of {call.written['function']['name']} ({call_id})"
        content, parts = to_tool_content(results[call.tool_use_id].pop(), label, target)
        tool_messages.append(_result(call, content, target))
        attached += parts
    left = {id(result) for each in results.values() for result in each}
    orphans = [part for block in blocks if id(block) in left for part in _orphan(block, target)]
    rest = [block for block in blocks if block["type"] != "tool_result"]
    return [*tool_messages, *_segments(attached + orphans, rest, target)]


def _missing_results(calls: list[_Call], target: Target) -> list[JsonObject]:
    """Every call must be answered; a client that was interrupted may have no answer."""
    return [_result(call, "[no result]", target) for call in calls]


def _result(call: _Call, content: str | list[JsonObject], target: Target) -> JsonObject:
    name = {"name": call.written["function"]["name"]} if target.dialect.tool_result_names else {}
    return openai.tool_message(call.written["id"], content) | name


def _orphan(result: JsonObject, target: Target) -> list[JsonObject]:
    """A result that answers no call of the turn before, or one that is answered already, can't be a tool message: its
    content is kept for the model to read.
    """
    # It stands before each of the result's images.
    label = f"another tool result, for call {shorten(result['tool_use_id'])}"
    text, attached = to_tool_text(result, label, target)
    return [openai.text_part(f"[{label}]\n{text}"), *attached]


def _segments(parts: list[JsonObject], rest: list[JsonObject], target: Target) -> list[JsonObject]:
    """User and system messages for the rest of a user's turn, in order."""
    messages: list[JsonObject] = []
    for block in rest:
        if block["type"] is not SYSTEM_TEXT:
            parts += to_parts([block], target)
        elif target.dialect.system_anywhere:
            messages += [openai.user_message(parts)] if parts else []
            messages.append(openai.system_message(block["text"]))
            parts = []
        else:
            parts.append(
                openai.text_part(f"<system-reminder>\n{block['text']}\n</system-reminder>")
            )
    return [*messages, openai.user_message(parts)] if parts else messages
