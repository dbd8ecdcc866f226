"""The parts of a request that the translation of its response needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from anthropic_proxy.routing.router import requests_thinking
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.tool_names import ToolName
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject


class ReasoningDisplay(Enum):
    """How the response shows reasoning."""

    FULL = "full"
    # Thinking blocks have no text (display "omitted").
    OMITTED = "omitted"
    # There are no thinking blocks (a request without `thinking`).
    HIDDEN = "hidden"


@dataclass(frozen=True)
class CompactionResult:
    """The result of a summary request."""

    # The compaction block; its content is null without a summary.
    block: JsonObject
    # The stop fields of the upstream's response.
    stop: JsonObject
    # The entry in `usage.iterations`.
    usage: JsonObject


@dataclass(frozen=True)
class ResponseSpec:
    """The parts of a request that the translation of its response needs."""

    message_id: str
    # The model name of the request.
    model: str
    # Tokens of the request, used until the upstream reports its count.
    input_estimate: int
    # Named in errors.
    upstream: UpstreamIdentity
    # Returns a new id for each tool call.
    new_tool_id: Callable[[], str]
    # The caller's names of the tools that have other names at the upstream.
    tool_names: Mapping[str, ToolName] = field(default_factory=dict)
    # Signs thinking blocks.
    signer: Signer = UNSIGNED
    # The tools of the upstream request: parameter schemas by the upstream's names.
    tools: Mapping[str, JsonObject] = field(default_factory=dict)
    # True if the text may contain tool calls.
    calls_in_text: bool = False
    # The caller accepts at most one tool call, whether or not the upstream complies.
    single_call: bool = False
    stop_sequences: list[str] = field(default_factory=list)
    reasoning: ReasoningDisplay = ReasoningDisplay.HIDDEN
    # Tokens of prompt and response together; 0 if not known.
    context_window: int = 0
    # True if the response begins within a block of reasoning.
    starts_in_thinking: bool = False
    # The beginning of the response text, where the caller wrote it.
    prefill: str = ""
    # True if the text must be one JSON document.
    is_structured: bool = False
    # More top-level fields of the message.
    message_fields: JsonObject = field(default_factory=dict)
    # More fields of its usage.
    usage_fields: JsonObject = field(default_factory=dict)
    # The report on the request's context edits, if it had any.
    context_management: JsonObject | None = None
    # The compaction that precedes the response.
    compaction: CompactionResult | None = None
    wants_fast_mode: bool = False


def build_diagnostics(request: JsonObject) -> JsonObject:
    """Return the message's field `diagnostics`.

    The proxy cannot compare the request with an earlier one.
    """
    options = request.get("diagnostics")
    if options is None:
        return {}
    if not options.get("previous_message_id"):
        return {"diagnostics": None}
    return {"diagnostics": {"cache_miss_reason": {"type": "unavailable"}}}


def build_fallback_credit(request: JsonObject) -> JsonObject:
    """Return the usage field for a request that uses the credit of a refused one.

    Only Anthropic grants such credit.
    """
    if not request.get("fallback_credit_token"):
        return {}
    return {"fallback_credit": {"status": {"type": "not_applied", "reason": "not_enabled"}}}


def get_reasoning_display(request: JsonObject) -> ReasoningDisplay:
    """Return how the response to a checked request shows reasoning."""
    if not requests_thinking(request):
        return ReasoningDisplay.HIDDEN
    if request["thinking"].get("display") == "omitted":
        return ReasoningDisplay.OMITTED
    return ReasoningDisplay.FULL


def get_tool_schemas(body: JsonObject) -> Mapping[str, JsonObject]:
    """Return the parameter schemas of the tools of a Chat Completions body, by name."""
    schemas: dict[str, JsonObject] = {}
    for tool in body.get("tools") or ():
        if tool.get("type") == "function":
            function = tool["function"]
            schemas[function["name"]] = function.get("parameters") or {}
    return schemas
