"""Apply `context_management.edits`: remove old tool results and thinking from a request.

Upstreams have no such feature, so the proxy edits the request before the translation. The result
depends only on the request: the same conversation is always edited in the same way, which keeps
upstream prefix caches valid. The original request is not modified; unchanged parts are shared.

Source: the page on context editing in the API's documentation, and recorded responses.
`applied_edits` lists the edits that removed something; it is an empty list if none did.
"""

from collections.abc import Callable, Iterator

from anthropic_proxy.translate.compaction_blocks import get_blocks
from anthropic_proxy.wire.json_codec import JsonObject

# Estimates the input tokens of a request.
CountTokens = Callable[[JsonObject], int]

# The edited request and the edit's fields in `applied_edits`; None if the edit removes nothing.
_Edited = tuple[JsonObject, JsonObject] | None

CLEARED_TEXT = "[This tool result was cleared to save context]"

SUPPORTED_EDITS = ("clear_tool_uses_20250919", "clear_thinking_20251015", "compact_20260112")

_DEFAULT_TRIGGER: JsonObject = {"type": "input_tokens", "value": 100_000}
_DEFAULT_KEEP_TOOL_USES = 3
# The API's default depends on the Claude model: the last turn, or all turns for the newest models.
_DEFAULT_KEEP_THINKING_TURNS = 1

_THINKING_TYPES = ("thinking", "redacted_thinking")


def apply_edits(
    request: JsonObject, count_tokens: CountTokens
) -> tuple[JsonObject, list[JsonObject]]:
    """Apply the edits of a validated request without compaction blocks.

    Return the edited request and the value of `applied_edits`. Compaction is separate (see
    translate/compaction.py). Tokens are counted only if an edit depends on them or removed
    something.
    """
    applied_edits: list[JsonObject] = []
    counter = _CachedCounter(count_tokens)
    for edit in get_edits(request):
        apply = _EDIT_FUNCTIONS.get(edit["type"])
        outcome = apply(request, edit, counter.count) if apply else None
        if outcome is None:
            continue
        edited, report = outcome
        tokens = max(0, counter.count(request) - counter.count(edited))
        if tokens >= (edit.get("clear_at_least") or {}).get("value", 0):
            applied_edits.append({"type": edit["type"], "cleared_input_tokens": tokens, **report})
            request = edited
    return request, applied_edits


class _CachedCounter:
    """A counter that estimates the tokens of each request only once."""

    def __init__(self, count_tokens: CountTokens) -> None:
        self._count_tokens = count_tokens
        # The requests are stored too, because an id is unique only while its object exists.
        self._counts: dict[int, tuple[JsonObject, int]] = {}

    def count(self, request: JsonObject) -> int:
        if id(request) not in self._counts:
            self._counts[id(request)] = request, self._count_tokens(request)
        return self._counts[id(request)][1]


def get_edits(request: JsonObject) -> list[JsonObject]:
    """Return the edits of a validated request."""
    edits: list[JsonObject] = (request.get("context_management") or {}).get("edits") or []
    return edits


def describe_ignored_edits(request: JsonObject) -> set[str]:
    """Return notes for the edits that the proxy does not support."""
    kinds = {edit["type"] for edit in get_edits(request)}
    return {f"context edit {kind}" for kind in kinds.difference(SUPPORTED_EDITS)}


def _clear_tool_uses(request: JsonObject, edit: JsonObject, count_tokens: CountTokens) -> _Edited:
    messages = request["messages"]
    uses = [block for block in _iterate_blocks(messages) if block["type"] == "tool_use"]
    trigger = edit.get("trigger") or _DEFAULT_TRIGGER
    amount = len(uses) if trigger["type"] == "tool_uses" else count_tokens(request)
    if amount <= trigger["value"]:
        return None
    old_ids = _find_old_uses(messages, uses, edit)
    clears_input = _parse_clear_tool_inputs(edit)
    cleared_ids: set[str] = set()

    def clear(block: JsonObject) -> JsonObject:
        new_block = _clear_block(block, old_ids, clears_input)
        if new_block is not block:
            cleared_ids.add(block.get("tool_use_id") or block["id"])
        return new_block

    edited = _map_blocks(request, clear)
    if not cleared_ids:
        return None
    return edited, {"cleared_tool_uses": len(cleared_ids)}


def _find_old_uses(
    messages: list[JsonObject], uses: list[JsonObject], edit: JsonObject
) -> set[str]:
    """Return the ids of the tool uses to clear, without ids that later tool uses repeat."""
    keep = (edit.get("keep") or {}).get("value", _DEFAULT_KEEP_TOOL_USES)
    excluded = frozenset(edit.get("exclude_tools") or ())
    keep_start = max(0, len(uses) - keep)
    old = {use["id"] for use in uses[:keep_start] if use["name"] not in excluded}
    return old - {use["id"] for use in uses[keep_start:]} - _find_unread_results(messages)


def _find_unread_results(messages: list[JsonObject]) -> set[str]:
    """Return the ids of the results after the last assistant message.

    The model has not read them yet; without them it would repeat the calls forever.
    """
    ids: set[str] = set()
    for message in reversed(messages):
        if message["role"] == "assistant":
            break
        for block in get_blocks(message):
            if block["type"] == "tool_result":
                ids.add(block["tool_use_id"])
    return ids


def _parse_clear_tool_inputs(edit: JsonObject) -> Callable[[str], bool]:
    """Return a predicate for the names of tools whose inputs are cleared."""
    inputs = edit.get("clear_tool_inputs")
    if isinstance(inputs, list):
        return frozenset(inputs).__contains__
    return lambda _name: inputs is True


def _clear_block(
    block: JsonObject, old_ids: set[str], clears_input: Callable[[str], bool]
) -> JsonObject:
    """Return the block with its content cleared, or the same block if nothing is cleared."""
    if block["type"] == "tool_result" and block["tool_use_id"] in old_ids:
        is_cleared = block.get("content") == CLEARED_TEXT
        return block if is_cleared else {**block, "content": CLEARED_TEXT}
    if block["type"] == "tool_use" and block["id"] in old_ids:
        is_kept = not block["input"] or not clears_input(block["name"])
        return block if is_kept else {**block, "input": {}}
    return block


def _clear_thinking(request: JsonObject, edit: JsonObject, _: CountTokens) -> _Edited:
    keep = edit.get("keep") or {"type": "thinking_turns", "value": _DEFAULT_KEEP_THINKING_TURNS}
    if keep == "all" or keep["type"] == "all":
        return None
    messages = request["messages"]
    turns = _number_turns(messages)
    thinking_turns: set[int] = set()
    for message, turn in zip(messages, turns, strict=True):
        if any(block["type"] in _THINKING_TYPES for block in get_blocks(message)):
            thinking_turns.add(turn)
    old_turns = set(sorted(thinking_turns)[: -keep["value"]])
    if not old_turns:
        return None
    edited = []
    for message, turn in zip(messages, turns, strict=True):
        edited.append(_drop_thinking(message) if turn in old_turns else message)
    return {**request, "messages": edited}, {"cleared_thinking_turns": len(old_turns)}


def _number_turns(messages: list[JsonObject]) -> list[int]:
    """Return the number of the assistant turn of each message.

    A message with tool results does not end a turn, even if it also contains text (Claude Code adds
    reminders there).
    """
    numbers: list[int] = []
    turn = 0
    for message in messages:
        has_result = any(block["type"] == "tool_result" for block in get_blocks(message))
        if message["role"] == "user" and not has_result:
            turn += 1
        numbers.append(turn)
    return numbers


def _drop_thinking(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, list):
        return message
    rest = [block for block in content if block["type"] not in _THINKING_TYPES]
    return {**message, "content": rest}


def _iterate_blocks(messages: list[JsonObject]) -> Iterator[JsonObject]:
    for message in messages:
        yield from get_blocks(message)


def _map_blocks(request: JsonObject, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """Return the request with `change` applied to each block."""
    messages = []
    for message in request["messages"]:
        blocks = [change(block) for block in get_blocks(message)]
        messages.append({**message, "content": blocks} if blocks else message)
    return {**request, "messages": messages}


_EDIT_FUNCTIONS: dict[str, Callable[[JsonObject, JsonObject, CountTokens], _Edited]] = {
    "clear_tool_uses_20250919": _clear_tool_uses,
    "clear_thinking_20251015": _clear_thinking,
}
