"""Compaction: replace a conversation by a summary in later requests.

The edit `compact_20260112` adds a summary when a request is too long: the response contains the
compaction block, followed by other content. With the field `compaction`, the response contains only
the summary.

The summary comes from a separate request: the same conversation, system prompt and tools, so that
the upstream can reuse its prefix cache, followed by instructions. This module builds that request
and parses the response; the gateway sends it.

Source: the pages on compaction in the API's documentation, and recorded responses.
"""

from dataclasses import dataclass

from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks, get_blocks
from anthropic_proxy.translate.context_edits import CountTokens, get_edits
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.spec import CompactionResult, ResponseSpec
from anthropic_proxy.translate.response.usage import to_usage_iteration, zero_usage
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.anthropic.request import NOTHING_TO_SUMMARIZE
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_INSTRUCTIONS = """\
Write a summary of the conversation above. The summary will replace the conversation, so it must \
be possible to continue the work with the summary alone. Include, if it still matters:
- the user's goal: the latest request in the user's own words, and whether it is completed;
- the work done and the facts found, with the exact names, paths, numbers, code and errors that \
are needed again;
- decisions with their reasons, and the rules and preferences that the user stated;
- the remaining work, and the next step.
Omit everything that is no longer useful. Do not respond to the request, do not continue the work \
and do not call tools: respond with the summary only."""

_DEFAULT_TRIGGER_TOKENS = 150_000
# In an edit, `max_tokens` limits only the response after the summary.
_MIN_SUMMARY_TOKENS = 4096

# Marks the blocks of on-demand summaries. It signs nothing, because the block's text is complete.
_SIGNATURE = "anthropic-proxy.1.compaction"

_STOP_FIELDS = ("stop_reason", "stop_sequence", "stop_details")

# Fields that only affect the response.
_RESPONSE_FIELDS = (
    "stream",
    "stop_sequences",
    "context_management",
    "compaction",
    "output_format",
    "tool_choice",
    "diagnostics",
)


@dataclass(frozen=True)
class SummaryPlan:
    """The settings for the summary of a conversation."""

    instructions: str
    # the response contains only the summary (field `compaction`)
    on_demand: bool = False
    # the response ends after the summary, and the client sends the next request
    pauses: bool = False

    def ends_response(self, result: CompactionResult) -> bool:
        """Return whether the response ends after the summary.

        A response without a summary does not pause, because the client could not continue.
        """
        return self.on_demand or (self.pauses and result.block["content"] is not None)


def plan_summary(request: JsonObject, count_tokens: CountTokens) -> SummaryPlan | None:
    """Return the plan for the summary of a validated request, or None if it needs no summary.

    Raises ApiError (400) for invalid combinations of fields.
    """
    config = request.get("compaction")
    if config is not None:
        _check_combinations(request)
        _check_conversation(request)
        return SummaryPlan(_get_instructions(config), on_demand=True)
    edits = [edit for edit in get_edits(request) if edit["type"] == "compact_20260112"]
    tokens = count_tokens(request) if edits else 0
    for edit in edits:
        if tokens >= (edit.get("trigger") or {}).get("value", _DEFAULT_TRIGGER_TOKENS):
            pauses = bool(edit.get("pause_after_compaction"))
            return SummaryPlan(_get_instructions(edit), pauses=pauses)
    return None


def build_summary_request(request: JsonObject, plan: SummaryPlan) -> JsonObject:
    """Build the request for a summary of the conversation in `request`."""
    summary_request = {
        name: value for name, value in request.items() if name not in _RESPONSE_FIELDS
    }
    prompt = {"role": "user", "content": [{"type": "text", "text": plan.instructions}]}
    summary_request["messages"] = [*request["messages"], prompt]
    if not plan.on_demand:
        summary_request["max_tokens"] = max(request["max_tokens"], _MIN_SUMMARY_TOKENS)
    output_config = dict(request.get("output_config") or {})
    output_config.pop("format", None)
    summary_request["output_config"] = output_config or None
    if request.get("tools"):
        summary_request["tool_choice"] = {"type": "none"}
    return summary_request


def parse_summary(message: JsonObject, request: JsonObject, plan: SummaryPlan) -> CompactionResult:
    """Parse the response to a summary request.

    The block has no content if the response was truncated or contains a tool call.
    """
    text = ""
    if message["stop_reason"] == "end_turn":
        texts = [block["text"] for block in message["content"] if block["type"] == "text"]
        text = "".join(texts).strip()
    block = events.compaction_block(text or None)
    if plan.on_demand:
        block["signature"] = _SIGNATURE
    tool_changes = _collect_tool_changes(request)
    if tool_changes:
        block["tool_changes"] = tool_changes
    if text:
        stop: JsonObject = {"stop_reason": "compaction", "stop_sequence": None}
    else:
        stop = {name: message[name] for name in _STOP_FIELDS if name in message}
    return CompactionResult(block, stop, to_usage_iteration("compaction", message["usage"]))


def apply_summary(request: JsonObject, compaction: CompactionResult) -> JsonObject:
    """Replace the conversation by its summary, as if the client had sent the block."""
    if compaction.block["content"] is None:
        return request
    summary_message = {"role": "assistant", "content": [compaction.block]}
    messages = [*request["messages"], summary_message]
    return expand_compaction_blocks({**request, "messages": messages})


def build_summary_events(
    spec: ResponseSpec, compaction: CompactionResult, plan: SummaryPlan
) -> list[JsonObject]:
    """Build the events of a response that contains only the compaction block.

    An on-demand response has the complete block in one event, or no block without a summary. The
    block of an edit has the same events as in a longer response. Only `iterations` of the usage
    counts the tokens of the summary.
    """
    writer = BlockWriter(spec.signer, {}, omits_thinking=False)
    if not plan.on_demand:
        writer.write_compaction(compaction.block)
    elif compaction.block["content"] is not None:
        writer.pending_events += [events.block_start(0, compaction.block), events.block_stop(0)]
    message = events.message(spec.message_id, spec.model, zero_usage()) | spec.message_fields
    usage = {**zero_usage(), "iterations": [compaction.usage]}
    return [
        events.message_start(message),
        events.ping(),
        *writer.take(),
        events.message_delta(compaction.stop, usage, spec.context_management),
        events.message_stop(),
    ]


def _get_instructions(config: JsonObject) -> str:
    instructions: str = config.get("instructions") or ""
    return instructions if instructions.strip() else _INSTRUCTIONS


def _check_combinations(request: JsonObject) -> None:
    """Raise ApiError (400) for fields that cannot apply to a response with only a summary."""
    output_config = request.get("output_config") or {}
    tool_choice = request.get("tool_choice") or {}
    incompatible_fields = {
        "context_management": request.get("context_management") is not None,
        "stop_sequences": request.get("stop_sequences"),
        "output_config.format": output_config.get("format"),
        "output_format": request.get("output_format"),
        "tool_choice": tool_choice.get("type") in ("any", "tool"),
    }
    for name, is_present in incompatible_fields.items():
        if is_present:
            raise invalid_request(
                f"{name}: cannot be combined with compaction, which returns only a summary"
            )


def _check_conversation(request: JsonObject) -> None:
    """Raise ApiError (400) for an empty conversation, or one that ends in a tool call."""
    conversation = []
    for message in request["messages"]:
        if message["role"] != "system" and message["content"]:
            conversation.append(message)
    if not conversation:
        details = {"error_code": NOTHING_TO_SUMMARIZE}
        text = "compaction: the messages contain nothing to summarize"
        raise ApiError(400, text, details=details)
    last = conversation[-1]
    has_call = any(block["type"] == "tool_use" for block in get_blocks(last))
    if last["role"] == "assistant" and has_call:
        details = {"error_code": "compaction_incomplete_turn"}
        text = (
            "compaction: the last assistant turn ends in a tool call without a result; "
            "send the result first"
        )
        raise ApiError(400, text, details=details)


def _collect_tool_changes(request: JsonObject) -> list[JsonObject]:
    """Return the tool changes of the conversation, which stay valid after the summary."""
    changes = []
    for message in request["messages"]:
        if message["role"] != "system":
            continue
        for block in get_blocks(message):
            if block["type"] in TOOL_CHANGE_TYPES:
                changes.append(block)
    return changes
