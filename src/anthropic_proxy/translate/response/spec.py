"""What the client expects of an answer: the part of its request that the translation back needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from anthropic_proxy.routing.router import wants_thinking
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.tool_names import ToolName
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject


class ReasoningDisplay(Enum):
    """What becomes of the upstream's reasoning: nothing unless the client asked, and no text with display "omitted"."""

    FULL = "shown"
    OMITTED = "omitted"
    HIDDEN = "hidden"


@dataclass(frozen=True)
class CompactionResult:
    """What became of the making of a summary. block: the compaction block; its content is null where there is no summary.
    stop: how the upstream's answer ended. usage: its entry in `usage.iterations`.
    """

    block: JsonObject
    stop: JsonObject
    usage: JsonObject


@dataclass(frozen=True)
class ResponseSpec:
    """id: of the message. model: the name that the client asked for. input_estimate: tokens of the request, for what is
    said before the upstream has counted. new_tool_id: a fresh id for each tool call. tool_names: the client's names of
    the tools that the upstream knows by other ones. tools: what the upstream was offered, schemas of the parameters by
    its own names. calls_in_text: whether a call may be looked for in the text. single_call: the client takes one tool
    call at most, whatever the upstream makes of that. source: the upstream, for errors. signer: of thinking blocks.
    context_window: tokens of prompt and answer together, 0 while that is not known. opens_thinking: whether answers
    begin within a block of reasoning. prefill: the beginning of the answer's text, where the client has written it.
    structured: whether the text must be one JSON document. fields: further top-level fields of the message.
    usage_fields: further fields of its usage. context_management: what became of the request's edits, if it had any.
    compaction: what stands before the answer. asks_for_speed: whether the client wants the
    fast mode.
    """

    message_id: str
    model: str
    input_estimate: int
    upstream: UpstreamIdentity
    new_tool_id: Callable[[], str]
    tool_names: Mapping[str, ToolName] = field(default_factory=dict)
    signer: Signer = UNSIGNED
    tools: Mapping[str, JsonObject] = field(default_factory=dict)
    calls_in_text: bool = False
    single_call: bool = False
    stop_sequences: list[str] = field(default_factory=list)
    reasoning: ReasoningDisplay = ReasoningDisplay.HIDDEN
    context_window: int = 0
    starts_in_thinking: bool = False
    prefill: str = ""
    is_structured: bool = False
    message_fields: JsonObject = field(default_factory=dict)
    usage_fields: JsonObject = field(default_factory=dict)
    context_management: JsonObject | None = None
    compaction: CompactionResult | None = None
    wants_fast_mode: bool = False


def build_diagnostics(request: JsonObject) -> JsonObject:
    """The message's field `diagnostics`: nobody here can compare the request with an earlier one."""
    options = request.get("diagnostics")
    if options is None:
        return {}
    previous_id = options.get("previous_message_id")
    return {"diagnostics": {"cache_miss_reason": {"type": "unavailable"}} if previous_id else None}


def build_fallback_credit(request: JsonObject) -> JsonObject:
    """The usage's field for a request that pays with the credit of a refused one, which only Anthropic gives."""
    status = {"type": "not_applied", "reason": "not_enabled"}
    return {"fallback_credit": {"status": status}} if request.get("fallback_credit_token") else {}


def get_reasoning_display(request: JsonObject) -> ReasoningDisplay:
    """How the answer to a checked request shows reasoning."""
    if not wants_thinking(request):
        return ReasoningDisplay.HIDDEN
    return (
        ReasoningDisplay.OMITTED
        if request["thinking"].get("display") == "omitted"
        else ReasoningDisplay.FULL
    )


def get_tool_schemas(body: JsonObject) -> Mapping[str, JsonObject]:
    """The tools of a Chat Completions body: the schemas of their parameters by name."""
    functions = [
        tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"
    ]
    return {function["name"]: function.get("parameters") or {} for function in functions}
