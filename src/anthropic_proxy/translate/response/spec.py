"""The parts of a request that the translation of its response needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from anthropic_proxy.routing.router import requests_thinking
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.tool_names import ToolName
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject


class ReasoningDisplay(Enum):
    """Representation of reasoning in the response."""

    FULL = "full"
    # Thinking blocks have no text (display "omitted").
    OMITTED = "omitted"
    # There are no thinking blocks (request without `thinking`).
    HIDDEN = "hidden"


@dataclass(frozen=True)
class CompactionResult:
    """The result of a summary request."""

    # the compaction block; its content is null without a summary
    block: JsonObject
    # the stop fields of the message
    stop: JsonObject
    # the entry in `usage.iterations`
    usage: JsonObject


@dataclass(frozen=True)
class ResponseSpec:
    """The parts of a request that the translation of its response needs."""

    message_id: str
    # model name of the request
    model: str
    # input tokens, used until the upstream reports its count
    input_estimate: int
    # for errors
    upstream: UpstreamIdentity
    # returns a new id for each tool call
    new_tool_id: Callable[[], str]
    # the client's names of the tools that have other names upstream
    tool_names: Mapping[str, ToolName] = field(default_factory=dict)
    # signs thinking blocks
    signer: Signer = UNSIGNED
    # parameter schemas of the upstream request's tools, by the upstream's names
    tools: Mapping[str, JsonObject] = field(default_factory=dict)
    # whether the text may contain tool calls
    calls_in_text: bool = False
    # whether the client receives only the first tool call, even if the upstream sends more
    single_call: bool = False
    stop_sequences: list[str] = field(default_factory=list)
    reasoning: ReasoningDisplay = ReasoningDisplay.HIDDEN
    # maximum sum of prompt and response in tokens; 0 if unknown
    context_window: int = 0
    # whether the response starts within a reasoning block
    starts_in_thinking: bool = False
    # beginning of the response text that the client provided
    prefill: str = ""
    # whether the text must be one JSON document
    is_structured: bool = False
    # additional top-level fields of the message
    message_fields: JsonObject = field(default_factory=dict)
    # additional fields of the usage
    usage_fields: JsonObject = field(default_factory=dict)
    # the report on the request's context edits, if it had any
    context_management: JsonObject | None = None
    # the compaction before the response
    compaction: CompactionResult | None = None
    wants_fast_mode: bool = False


def build_diagnostics(request: JsonObject) -> JsonObject:
    """Return the field `diagnostics` of the message.

    The cache miss reason is "unavailable", because the proxy stores no earlier requests.
    """
    options = request.get("diagnostics")
    if options is None:
        return {}
    if not options.get("previous_message_id"):
        return {"diagnostics": None}
    return {"diagnostics": {"cache_miss_reason": {"type": "unavailable"}}}


def build_fallback_credit(request: JsonObject) -> JsonObject:
    """Return the usage field `fallback_credit` if the request has a credit token.

    The credit is never applied, because only Anthropic grants it.
    """
    if not request.get("fallback_credit_token"):
        return {}
    return {"fallback_credit": {"status": {"type": "not_applied", "reason": "not_enabled"}}}


def get_reasoning_display(request: JsonObject) -> ReasoningDisplay:
    """Return the representation of reasoning for a validated request."""
    if not requests_thinking(request):
        return ReasoningDisplay.HIDDEN
    if request["thinking"].get("display") == "omitted":
        return ReasoningDisplay.OMITTED
    return ReasoningDisplay.FULL


def get_tool_schemas(body: JsonObject) -> Mapping[str, JsonObject]:
    """Return the parameter schemas of a Chat Completions request's tools, by name."""
    schemas: dict[str, JsonObject] = {}
    for tool in body.get("tools") or ():
        if tool.get("type") == "function":
            function = tool["function"]
            schemas[function["name"]] = function.get("parameters") or {}
    return schemas
