"""`context_management.edits`: old tool results and old thinking are taken out of a request before it is translated.

Upstreams have nothing like it, so the proxy does it, from the request alone: the same conversation is always cut in the
same way, and upstream prefix caches hold. The given request is never changed; what an edit leaves alone is shared with it.

Source: the page on context editing of the API's docs, and recorded answers: `applied_edits` lists the edits that took
something away, and is empty, not absent, when there were none.
"""

from collections.abc import Callable, Iterator
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

# Estimates the input tokens of a request.
CountTokens = Callable[[JsonObject], int]

CLEARED_TEXT = "[This tool result was cleared to save context]"

_DEFAULT_TRIGGER: JsonObject = {"type": "input_tokens", "value": 100_000}
_DEFAULT_KEEP_TOOL_USES = 3
# The real default depends on the model of Claude: the last turn, or for the newest ones all of them.
_DEFAULT_KEEP_THINKING_TURNS = 1

_THINKING = ("thinking", "redacted_thinking")


def apply_edits(
    request: JsonObject, count_tokens: CountTokens
) -> tuple[JsonObject, list[JsonObject]]:
    """Apply the edits of a checked request without compaction blocks.

    Return the edited request and the value of `applied_edits`. Compaction is separate: see
    translate/compaction.py. Tokens are counted only where an edit depends on them or removed
    something.
    """
    if not get_edits(request):
        return request, []
    count_tokens = _cache_counts(count_tokens)
    applied_edits = []
    for edit in get_edits(request):
        apply = _EDIT_FUNCTIONS.get(edit["type"])
        edited, report = apply(request, edit, count_tokens) if apply else (request, None)
        if report is None:
            continue
        tokens = max(0, count_tokens(request) - count_tokens(edited))
        if tokens >= (edit.get("clear_at_least") or {}).get("value", 0):
            applied_edits.append({"type": edit["type"], "cleared_input_tokens": tokens, **report})
            request = edited
    return request, applied_edits


def _cache_counts(count_tokens: CountTokens) -> CountTokens:
    """Return a token count that estimates each request once."""
    cache: dict[int, tuple[JsonObject, int]] = {}

    def count_with_cache(request: JsonObject) -> int:
        if id(request) not in cache:
            cache[id(request)] = request, count_tokens(request)
        return cache[id(request)][1]

    return count_with_cache


def get_edits(request: JsonObject) -> list[JsonObject]:
    """Return the edits of a checked request."""
    edits: list[JsonObject] = (request.get("context_management") or {}).get("edits") or []
    return edits


def describe_ignored_edits(request: JsonObject) -> set[str]:
    """Return notes for the edits that the proxy does not support."""
    return {
        f"context edit {edit['type']}"
        for edit in get_edits(request)
        if edit["type"] not in SUPPORTED_EDITS
    }


def _clear_tool_uses(
    request: JsonObject, edit: JsonObject, count_tokens: CountTokens
) -> tuple[JsonObject, JsonObject | None]:
    uses = [block for _, block in _iter_blocks(request["messages"]) if block["type"] == "tool_use"]
    if not _is_triggered(edit.get("trigger") or _DEFAULT_TRIGGER, request, len(uses), count_tokens):
        return request, None
    old_ids = _find_old_uses(request["messages"], uses, edit)
    inputs = edit.get("clear_tool_inputs")
    if isinstance(inputs, list):
        inputs = frozenset(inputs)
    cleared_ids: set[str] = set()

    def clear(block: JsonObject) -> JsonObject:
        new_block = _clear_block(block, old_ids, inputs)
        if new_block is not block:
            cleared_ids.add(block.get("tool_use_id") or block["id"])
        return new_block

    edited = _map_blocks(request, clear)
    return (edited, {"cleared_tool_uses": len(cleared_ids)}) if cleared_ids else (request, None)


def _find_old_uses(
    messages: list[JsonObject], uses: list[JsonObject], edit: JsonObject
) -> set[str]:
    """Return the ids of the uses to clear. An id that occurs again belongs to a use that stays."""
    keep = (edit.get("keep") or {}).get("value", _DEFAULT_KEEP_TOOL_USES)
    excluded = frozenset(edit.get("exclude_tools") or ())
    keep_start = max(0, len(uses) - keep)
    old = {use["id"] for use in uses[:keep_start] if use["name"] not in excluded}
    return old - {use["id"] for use in uses[keep_start:]} - _find_unread_results(messages)


def _find_unread_results(messages: list[JsonObject]) -> set[str]:
    """Return the ids of the results that the model has not read: without them it would repeat the calls for ever."""
    assistant_turns = [
        number for number, message in enumerate(messages) if message["role"] == "assistant"
    ]
    new_messages = messages[assistant_turns[-1] + 1 :] if assistant_turns else messages
    return {
        block["tool_use_id"]
        for _, block in _iter_blocks(new_messages)
        if block["type"] == "tool_result"
    }


def _is_triggered(
    trigger: JsonObject, request: JsonObject, uses: int, count_tokens: CountTokens
) -> bool:
    amount = uses if trigger["type"] == "tool_uses" else count_tokens(request)
    return bool(amount > trigger["value"])


def _clear_block(block: JsonObject, old_ids: set[str], inputs: Any) -> JsonObject:
    """Return the block without its cleared content; the block itself when nothing is cleared."""
    if block["type"] == "tool_result" and block["tool_use_id"] in old_ids:
        return block if block.get("content") == CLEARED_TEXT else {**block, "content": CLEARED_TEXT}
    if block["type"] == "tool_use" and block["id"] in old_ids and block["input"]:
        return (
            {**block, "input": {}} if inputs is True or block["name"] in (inputs or ()) else block
        )
    return block


def _clear_thinking(
    request: JsonObject, edit: JsonObject, _: CountTokens
) -> tuple[JsonObject, JsonObject | None]:
    keep = edit.get("keep") or {"type": "thinking_turns", "value": _DEFAULT_KEEP_THINKING_TURNS}
    if keep == "all" or keep["type"] == "all":
        return request, None
    messages = request["messages"]
    turns = _number_turns(messages)
    thinking = sorted(
        {turns[number] for number, block in _iter_blocks(messages) if block["type"] in _THINKING}
    )
    old = set(thinking[: -keep["value"]])
    if not old:
        return request, None
    edited = [
        _drop_thinking(message) if turn in old else message
        for message, turn in zip(messages, turns, strict=True)
    ]
    return {**request, "messages": edited}, {"cleared_thinking_turns": len(old)}


def _number_turns(messages: list[JsonObject]) -> list[int]:
    """For each message the number of its assistant turn: a turn goes on through tool results, whatever stands beside them
    (Claude Code puts reminders there).
    """
    numbers: list[int] = []
    turn = 0
    for message in messages:
        if message["role"] == "user" and not any(
            block["type"] == "tool_result" for _, block in _iter_blocks([message])
        ):
            turn += 1
        numbers.append(turn)
    return numbers


def _drop_thinking(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, list):
        return message
    return {**message, "content": [block for block in content if block["type"] not in _THINKING]}


def _iter_blocks(messages: list[JsonObject]) -> Iterator[tuple[int, JsonObject]]:
    """Yield all blocks, each with the index of its message."""
    for number, message in enumerate(messages):
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            yield number, block


def _map_blocks(request: JsonObject, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """Return the request with `change` applied to each block."""
    messages = [
        {**message, "content": [change(block) for block in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in request["messages"]
    ]
    return {**request, "messages": messages}


SUPPORTED_EDITS = ("clear_tool_uses_20250919", "clear_thinking_20251015", "compact_20260112")

_EDIT_FUNCTIONS: dict[
    str, Callable[[JsonObject, JsonObject, CountTokens], tuple[JsonObject, JsonObject | None]]
] = {
    "clear_tool_uses_20250919": _clear_tool_uses,
    "clear_thinking_20251015": _clear_thinking,
}
