"""Thinking blocks in the history of requests for upstreams with the Messages API.

Each provider accepts only its own blocks, and each has rules of its own: Anthropic checks the
signatures and requires the thinking of an open tool loop, DeepSeek requires the thinking of all
turns, and some servers do not know the blocks. After a failover, or if the client switches between
models, the history does not obey these rules. A table maps the refusals to changes of the request.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass
from functools import partial
from typing import Any

from anthropic_proxy.translate.compaction_blocks import get_blocks
from anthropic_proxy.translate.reasoning.signatures import is_proxy_signature
from anthropic_proxy.wire.json_codec import JsonObject

# The types of thinking blocks, and the fields that only their provider can read.
SIGNATURE_FIELDS = {"thinking": "signature", "redacted_thinking": "data"}

# Some gateways return 500 or 502 for a refusal of the provider.
_REFUSAL_STATUSES = frozenset({400, 422, 500, 502})

# Without `thinking`, Anthropic refuses this context edit.
_THINKING_EDIT = "clear_thinking_"

# The fields of a request that the changes concern.
CHANGED_FIELDS = ("messages", "thinking", "context_management")

# DeepSeek and Moonshot check only that there is thinking. Some models refuse an empty text.
_PLACEHOLDER: JsonObject = {"type": "thinking", "thinking": " ", "signature": ""}


@dataclass(frozen=True)
class ThinkingChange:
    """A change of the thinking in requests."""

    # A key of the metric of changes.
    name: str
    # Whether the change applies to all conversations with the model. Otherwise it applies to the
    # conversations whose thinking blocks were refused.
    is_lasting: bool = True


# Drop the thinking blocks that the upstream has refused, and those before them.
DROP_REFUSED = ThinkingChange("drop_refused_thinking", is_lasting=False)
# Drop all thinking blocks.
DROP_ALL = ThinkingChange("drop_thinking")
DROP_REDACTED = ThinkingChange("drop_redacted_thinking")
# Disable thinking in a tool loop whose last turn does not begin with thinking.
OMIT = ThinkingChange("omit_thinking")
# Add thinking to the turns that have none.
ADD = ThinkingChange("add_thinking")
# Replace the type of `thinking` that the model does not have by the other one, or disable thinking.
USE_BUDGET = ThinkingChange("use_thinking_budget")
USE_ADAPTIVE = ThinkingChange("use_adaptive_thinking")
DISABLE = ThinkingChange("disable_thinking")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


# Anthropic, also behind Bedrock, Vertex AI and gateways: the last turn of a tool loop has no
# thinking, because another upstream generated it (opencode#3077, pydantic-ai#2075).
MISSING_THINKING = _pattern(
    r"expected .?thinking.? or .?redacted_thinking.?,? but found"
    r"|final .?assistant.? message must start with a thinking block"
)
# Anthropic, also behind Bedrock, Vertex AI and gateways: blocks of another provider or model
# (claude-code-hub#518, better-ccflare#52), without a signature (oh-my-pi#10486), without text
# (sub2api#996), with other data (kelivo#481, OmniRoute#2191), changed (claude-code#63203), after
# another block (claude-code#20691), or in a request without thinking (forgecode#1853).
REFUSED_THINKING = _pattern(
    r"thinking.{0,80}signature|signature.{0,80}thinking"
    r"|redacted_thinking\.data|.data.? in .?redacted_thinking.? block"
    r"|thinking\.thinking: field required"
    r"|each thinking block must contain"
    r"|thinking.{0,20} blocks in the latest assistant message cannot be modified"
    r"|contains any thinking blocks, the first block must be"
    r"|in the final position cannot contain .?thinking"
)

# In order of evaluation. The texts are from the issue trackers of clients and gateways.
_RULES: tuple[tuple[re.Pattern[str], ThinkingChange], ...] = (
    (MISSING_THINKING, OMIT),
    # DeepSeek and Moonshot (9router#2397, DeepSeek-Reasonix#8902).
    (
        _pattern(
            r"(?:content\[\]\.thinking|reasoning_content|thinking)[`'\" ].{0,60}must be passed back"
            r"|thinking is enabled but reasoning_content is missing"
        ),
        ADD,
    ),
    # Servers that do not know the type of a block: DeepSeek (cc-haha#1215), pydantic.
    (
        _pattern(
            r"unknown variant [`'\"]redacted_thinking"
            r"|tag [`'\"]redacted_thinking[`'\"] found using"
            r"|(?:unknown|unsupported|invalid) (?:content |block )*+type:? [`'\"]?redacted_thinking"
        ),
        DROP_REDACTED,
    ),
    (
        _pattern(
            r"unknown variant [`'\"]thinking[`'\"]"
            r"|tag [`'\"]thinking[`'\"] found using"
            r"|[`'\"]input[`'\"]: ?[`'\"]thinking[`'\"]"
            r"|(?:unknown|unsupported|invalid) (?:content |block )*+type:? [`'\"]?thinking\b"
            r"|thinking blocks? (?:is|are) not (?:supported|allowed|permitted)"
        ),
        DROP_ALL,
    ),
    (REFUSED_THINKING, DROP_REFUSED),
    # Claude before 4.6 (claude-code#89633), also on Bedrock (strands-agents/harness-sdk#1856), and
    # Qwen (claude-code#29531).
    (
        _pattern(
            r"adaptive.? thinking is not supported|tag [`'\"]adaptive[`'\"] found using"
            r"|[`'\"]adaptive[`'\"] is not supported"
            r"|thinking\.type: input should be [`'\"](?:disabled|enabled)[`'\"]"
        ),
        USE_BUDGET,
    ),
    # Newer models of Claude (aelix-ai#258).
    (
        _pattern(r"thinking\.type\.enabled\\?.? is not supported|requires adaptive thinking"),
        USE_ADAPTIVE,
    ),
    # Models without thinking (claude-code#11388).
    (
        _pattern(
            r"(?:does not support (?:extended )?thinking|thinking is not supported)"
            r"(?! (?:with|when|if|together|in combination)\b(?! this model))"
        ),
        DISABLE,
    ),
)

# In tokens. Anthropic accepts no smaller budgets, and budgets must be below `max_tokens`.
_MIN_BUDGET = 1024
_MAX_BUDGET = 32_000


def find_thinking_changes(status: int, text: str) -> list[ThinkingChange]:
    """Return the changes that a refusal may require, in the order in which to try them."""
    if status not in _REFUSAL_STATUSES:
        return []
    return [change for pattern, change in _RULES if pattern.search(text)]


@dataclass(frozen=True)
class ThinkingPolicy:
    """The changes that a request needs."""

    # Names of lasting changes.
    changes: Collection[str] = frozenset()
    # Digests of thinking blocks that the upstream has refused.
    refused: Collection[bytes] = frozenset()


UNCHANGED = ThinkingPolicy()


def is_thinking(block: object, types: Container[str] = SIGNATURE_FIELDS) -> bool:
    """Return whether a block, which may be invalid, has one of the types."""
    kind = block.get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and kind in types


def is_proxy_thinking(block: Any) -> bool:
    """Return whether a block, which may be invalid, is a thinking block of this proxy."""
    return is_thinking(block) and is_proxy_signature(block.get(SIGNATURE_FIELDS[block["type"]]))


def find_last_thinking(messages: list[JsonObject]) -> bytes | None:
    """Return the digest of the last thinking block of an upstream, or None."""
    for message in reversed(messages):
        for block in reversed(get_blocks(message)):
            if is_thinking(block) and not is_proxy_thinking(block):
                return _digest(block)
    return None


def change_thinking(
    request: JsonObject, policy: ThinkingPolicy, *, has_lost_thinking: bool
) -> JsonObject:
    """Return the request with the changes of a policy; the same request if there are none.

    has_lost_thinking: whether the proxy has already removed thinking blocks from it.
    """
    request = _change_type(request, policy)
    messages = _drop_unaccepted(request["messages"], policy)
    if ADD.name in policy.changes:
        if _get_thinking_type(request) != "disabled":
            messages = _add_placeholders(messages)
    else:
        has_lost_thinking = has_lost_thinking or messages is not request["messages"]
        if _must_omit(request, messages, policy, has_lost_thinking=has_lost_thinking):
            return _omit_thinking(request, messages)
    return request if messages is request["messages"] else {**request, "messages": messages}


def drop_blocks(
    messages: list[JsonObject], is_dropped: Callable[[object], bool]
) -> list[JsonObject]:
    """Return the messages without some blocks; the same list if there are none."""
    changed = False
    kept_messages: list[JsonObject] = []
    for message in messages:
        content = get_blocks(message)
        kept_blocks = [block for block in content if not is_dropped(block)]
        if len(kept_blocks) == len(content):
            kept_messages.append(message)
            continue
        changed = True
        # The API rejects empty messages, but accepts consecutive messages with the same role.
        if kept_blocks:
            kept_messages.append({**message, "content": kept_blocks})
    return kept_messages if changed else messages


def _drop_unaccepted(messages: list[JsonObject], policy: ThinkingPolicy) -> list[JsonObject]:
    """Drop the blocks that the upstream does not know or has refused."""
    if DROP_ALL.name in policy.changes:
        return drop_blocks(messages, is_thinking)
    if DROP_REDACTED.name in policy.changes:
        messages = drop_blocks(messages, partial(is_thinking, types=("redacted_thinking",)))
    end = _find_end_of_refused(messages, policy.refused)
    beginning = messages[:end]
    accepted = drop_blocks(beginning, is_thinking)
    return messages if accepted is beginning else [*accepted, *messages[end:]]


def _find_end_of_refused(messages: list[JsonObject], refused: Collection[bytes]) -> int:
    """Return the index after the last message with a refused block; 0 if there is none."""
    if not refused:
        return 0
    for index in reversed(range(len(messages))):
        for block in get_blocks(messages[index]):
            if is_thinking(block) and _digest(block) in refused:
                return index + 1
    return 0


def _digest(block: JsonObject) -> bytes:
    # Blocks without a signature differ in their texts.
    fields = [str(block.get(name)) for name in ("type", "thinking", "signature", "data")]
    return hashlib.blake2b(
        "\0".join(fields).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def _get_thinking_type(request: JsonObject) -> object:
    thinking = request.get("thinking")
    return thinking.get("type") if isinstance(thinking, dict) else None


def _change_type(request: JsonObject, policy: ThinkingPolicy) -> JsonObject:
    """Replace a type of `thinking` that the model does not have."""
    kind = _get_thinking_type(request)
    if DISABLE.name in policy.changes and kind in ("enabled", "adaptive"):
        return _omit_thinking(request, request["messages"])
    if USE_BUDGET.name in policy.changes and kind == "adaptive":
        max_tokens = request.get("max_tokens")
        if not isinstance(max_tokens, int) or max_tokens <= _MIN_BUDGET:
            return _omit_thinking(request, request["messages"])
        budget = min(max(max_tokens // 2, _MIN_BUDGET), _MAX_BUDGET)
        return {**request, "thinking": {"type": "enabled", "budget_tokens": budget}}
    if USE_ADAPTIVE.name in policy.changes and kind == "enabled":
        others = {name: value for name, value in request["thinking"].items() if name == "display"}
        return {**request, "thinking": {"type": "adaptive", **others}}
    return request


def _must_omit(
    request: JsonObject,
    messages: list[JsonObject],
    policy: ThinkingPolicy,
    *,
    has_lost_thinking: bool,
) -> bool:
    """Return whether the upstream would refuse the request because it enables thinking.

    Anthropic requires thinking in the last turn only for the type "enabled".
    """
    kind = _get_thinking_type(request)
    if OMIT.name in policy.changes:
        is_affected = kind in ("enabled", "adaptive")
    else:
        is_affected = kind == "enabled" and has_lost_thinking
    return is_affected and _continues_without_thinking(messages)


def _continues_without_thinking(messages: list[JsonObject]) -> bool:
    """Return whether the response continues a turn that does not begin with thinking.

    This is the last turn of the assistant if the results of its calls follow, or if no message of
    the user follows.
    """
    first_message: JsonObject | None = None
    has_user_message = has_results = False
    for message in reversed(messages):
        if message.get("role") == "assistant":
            first_message = message
        elif message.get("role") == "user":
            if first_message is not None:
                break
            has_user_message = True
            has_results = has_results or any(map(_is_tool_result, get_blocks(message)))
    if first_message is None or (has_user_message and not has_results):
        return False
    blocks = get_blocks(first_message)
    return not (blocks and is_thinking(blocks[0]))


def _is_tool_result(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _add_placeholders(messages: list[JsonObject]) -> list[JsonObject]:
    """Add thinking to the messages of the assistant that have none."""
    changed = False
    completed: list[JsonObject] = []
    for message in messages:
        content = get_blocks(message)
        if isinstance(message.get("content"), str):
            content = [{"type": "text", "text": message["content"]}]
        if message.get("role") != "assistant" or any(map(is_thinking, content)):
            completed.append(message)
            continue
        changed = True
        completed.append({**message, "content": [_PLACEHOLDER, *content]})
    return completed if changed else messages


def _omit_thinking(request: JsonObject, messages: list[JsonObject]) -> JsonObject:
    """Remove `thinking`, and what Anthropic refuses without it: blocks and context edits."""
    changed = {**request, "messages": drop_blocks(messages, is_thinking)}
    changed.pop("thinking")
    management = request.get("context_management")
    if not isinstance(management, dict) or not isinstance(management.get("edits"), list):
        return changed
    edits = management["edits"]
    kept_edits = [edit for edit in edits if not _is_thinking_edit(edit)]
    if not kept_edits:
        changed.pop("context_management")
    elif len(kept_edits) < len(edits):
        changed["context_management"] = {**management, "edits": kept_edits}
    return changed


def _is_thinking_edit(edit: object) -> bool:
    kind = edit.get("type") if isinstance(edit, dict) else None
    return isinstance(kind, str) and kind.startswith(_THINKING_EDIT)
