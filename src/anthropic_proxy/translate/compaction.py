"""Compaction: a summary of the conversation that stands for it from then on. Pure parts; the gateway asks the upstream.

Two ways lead to it. The edit `compact_20260112` makes a summary when a request has grown too long, and the answer goes on
from there: its content is the compaction block and what follows. The field `compaction` asks for the summary alone. The
summary is the answer to a request of its own: the same conversation with the same system prompt and tools, so that the
upstream's prefix cache holds, and instructions at its end.

Source: the pages on compaction of the API's docs, and recorded answers.
"""

from dataclasses import dataclass
from typing import Any

from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import CountTokens, get_edits
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.spec import CompactionResult, ResponseSpec
from anthropic_proxy.translate.response.usage import to_usage_iteration, zero_usage
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.anthropic.request import NOTHING_TO_SUMMARIZE
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject

_INSTRUCTIONS = """\
Write a summary of the conversation above, so that somebody who has only the summary can go on with it: all that came \
before will be gone. Say, as far as it still matters:
- what the user wants: the latest request in the user's own words, and whether it has been answered;
- what has been done and found out, with the exact names, paths, numbers, code and errors that are needed again;
- decisions with their reasons, and the rules and wishes that the user has named;
- what is left to do, and the next step.
Leave out what is of no more use. Do not answer the request, do not go on with the work and do not call tools: your \
whole answer is the summary."""

_DEFAULT_TRIGGER_TOKENS = 150_000
# With an edit `max_tokens` bounds the answer; a summary of a long conversation needs some room in any case.
_MIN_SUMMARY_TOKENS = 4096

# Clients tell by it the blocks that they asked for. The text says all there is to say, so nothing is signed.
_SIGNATURE = "anthropic-proxy.1.compaction"

_STOP_FIELDS = ("stop_reason", "stop_sequence", "stop_details")

# What only shapes a reply.
_REPLY_FIELDS = (
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
    """How to summarise the conversation of a request."""

    instructions: str
    # The request wants the summary and nothing else.
    on_demand: bool = False
    # The response pauses after the summary; the caller sends the next request.
    pauses: bool = False

    def ends_response(self, result: CompactionResult) -> bool:
        """Return whether the response ends after the summary. A pause without a summary would not help the caller."""
        return self.on_demand or (self.pauses and result.block["content"] is not None)


def plan_summary(request: JsonObject, count_tokens: CountTokens) -> SummaryPlan | None:
    """Return how to summarise a checked request, if it wants that. Raises ApiError (400) for invalid combinations."""
    config = request.get("compaction")
    if config is not None:
        _check_compactable(request)
        return SummaryPlan(_get_instructions(config), on_demand=True)
    edits = [edit for edit in get_edits(request) if edit["type"] == "compact_20260112"]
    tokens = count_tokens(request) if edits else 0
    for edit in edits:
        if tokens >= (edit.get("trigger") or {}).get("value", _DEFAULT_TRIGGER_TOKENS):
            return SummaryPlan(
                _get_instructions(edit), pauses=bool(edit.get("pause_after_compaction"))
            )
    return None


def build_summary_request(request: JsonObject, plan: SummaryPlan) -> JsonObject:
    """Build the request whose response is the summary of the conversation in `request`."""
    prompt = {"role": "user", "content": [{"type": "text", "text": plan.instructions}]}
    limit = request["max_tokens"]
    output = {
        name: value
        for name, value in (request.get("output_config") or {}).items()
        if name != "format"
    }
    return {
        **{name: value for name, value in request.items() if name not in _REPLY_FIELDS},
        "messages": [*request["messages"], prompt],
        "max_tokens": limit if plan.on_demand else max(limit, _MIN_SUMMARY_TOKENS),
        "output_config": output or None,
        **({"tool_choice": {"type": "none"}} if request.get("tools") else {}),
    }


def parse_summary(message: JsonObject, request: JsonObject, plan: SummaryPlan) -> CompactionResult:
    """Read the response to a summary request. Only complete text without a tool call is a summary."""
    texts = [block["text"] for block in message["content"] if block["type"] == "text"]
    text = "".join(texts).strip() if message["stop_reason"] == "end_turn" else ""
    stop = {name: message[name] for name in _STOP_FIELDS if name in message}
    changes = _collect_tool_changes(request)
    block = {
        **events.compaction_block(text or None),
        **({"signature": _SIGNATURE} if plan.on_demand else {}),
        **({"tool_changes": changes} if changes else {}),
    }
    compaction_stop: JsonObject = {"stop_reason": "compaction", "stop_sequence": None}
    return CompactionResult(
        block, compaction_stop if text else stop, to_usage_iteration("compaction", message["usage"])
    )


def apply_summary(request: JsonObject, compaction: CompactionResult) -> JsonObject:
    """Replace the conversation with its summary, as it will be when the caller sends the block back."""
    if compaction.block["content"] is None:
        return request
    summary_message = {"role": "assistant", "content": [compaction.block]}
    return expand_compaction_blocks(
        {**request, "messages": [*request["messages"], summary_message]}
    )


def build_summary_events(
    spec: ResponseSpec, compaction: CompactionResult, plan: SummaryPlan
) -> list[JsonObject]:
    """Build the events of a response that holds only the compaction block; without a summary it holds no block.

    On demand the block comes whole; of an edit it comes as before an answer. Its tokens count in `iterations` alone.
    """
    writer = BlockWriter(spec.signer, {}, omits_thinking=False)
    if not plan.on_demand:
        writer.write_compaction(compaction.block)
    elif compaction.block["content"] is not None:
        writer.pending_events += [events.block_start(0, compaction.block), events.block_stop(0)]
    return [
        events.message_start(
            events.message(spec.message_id, spec.model, zero_usage()) | spec.message_fields
        ),
        events.ping(),
        *writer.take(),
        events.message_delta(
            compaction.stop,
            {**zero_usage(), "iterations": [compaction.usage]},
            spec.context_management,
        ),
        events.message_stop(),
    ]


def _get_instructions(config: JsonObject) -> str:
    instructions: str = config.get("instructions") or ""
    return instructions if instructions.strip() else _INSTRUCTIONS


def _check_compactable(request: JsonObject) -> None:
    for name, is_present in _INCOMPATIBLE_FIELDS.items():
        if is_present(request):
            raise invalid_request(
                f"{name}: can't be combined with compaction, which answers with a summary alone"
            )
    conversation = [
        message
        for message in request["messages"]
        if message["role"] != "system" and message["content"]
    ]
    if not conversation:
        details = {"error_code": NOTHING_TO_SUMMARIZE}
        raise ApiError(400, "compaction: the messages hold nothing to summarize", details=details)
    last = conversation[-1]
    if last["role"] == "assistant" and any(
        block["type"] == "tool_use" for block in _get_blocks(last)
    ):
        details = {"error_code": "compaction_incomplete_turn"}
        text = "compaction: the last assistant turn ends in a tool call without a result; send its results first"
        raise ApiError(400, text, details=details)


_INCOMPATIBLE_FIELDS: dict[str, Any] = {
    "context_management": lambda request: request.get("context_management") is not None,
    "stop_sequences": lambda request: request.get("stop_sequences"),
    "output_config.format": lambda request: (request.get("output_config") or {}).get("format"),
    "output_format": lambda request: request.get("output_format"),
    "tool_choice": lambda request: (
        (request.get("tool_choice") or {}).get("type") in ("any", "tool")
    ),
}


def _collect_tool_changes(request: JsonObject) -> list[JsonObject]:
    """Return the tool changes within the conversation, which stay valid after it."""
    return [
        block
        for message in request["messages"]
        if message["role"] == "system"
        for block in _get_blocks(message)
        if block["type"] in TOOL_CHANGE_TYPES
    ]


def _get_blocks(message: JsonObject) -> list[JsonObject]:
    content = message.get("content")
    return content if isinstance(content, list) else []
