"""How much the model is to think: `thinking` and `output_config.effort` -> the upstream's own form of it.

A request says at most one thing: to think (so hard, or so many tokens), or not to. What an upstream refuses of it (a model
that can't think, a level that it doesn't know) is learned from its refusal; see translate/adjustments.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject

_ENABLED_TYPES = frozenset({"enabled", "adaptive"})
# "between_tools": no thinking, but short notes between tool calls, which no other API has.
_DISABLED_TYPES = frozenset({"disabled", "between_tools"})

EFFORTS = ("low", "medium", "high", "xhigh", "max")

# Budgets in tokens and the effort that they stand for; the thresholds that other gateways use as well.
_BUDGETS = ((16384, "high"), (4096, "medium"), (0, "low"))


@dataclass(frozen=True)
class ReasoningRequest:
    """thinks: whether the model is to think; None when the client said nothing. effort: one of EFFORTS. budget: tokens."""

    enabled: bool | None
    effort: str | None
    budget: int | None

    @property
    def level(self) -> str | None:
        """The effort, else what the budget comes to."""
        if self.effort or self.budget is None:
            return self.effort
        return next(effort for least, effort in _BUDGETS if self.budget >= least)


def parse_reasoning_request(request: JsonObject) -> ReasoningRequest:
    """What a checked request says about thinking. The last message that sets the effort decides."""
    thinking = request.get("thinking") or {}
    kind = thinking.get("type")
    budget = thinking.get("budget_tokens") if kind == "enabled" else None
    configs = [
        request.get("output_config"),
        *(message.get("output_config") for message in request["messages"]),
    ]
    efforts = [config.get("effort") for config in configs if isinstance(config, dict)]
    effort = next((each for each in reversed(efforts) if each in EFFORTS), None)
    enabled = True if kind in _ENABLED_TYPES else False if kind in _DISABLED_TYPES else None
    return ReasoningRequest(
        enabled, effort, budget if isinstance(budget, int) and budget >= 0 else None
    )


def to_reasoning_fields(request: JsonObject, profile: ProviderProfile) -> JsonObject:
    """The fields that say it to an upstream of this dialect; none when the client said nothing."""
    return _CONVERTERS[profile.reasoning](parse_reasoning_request(request))


def disables_thinking(body: JsonObject) -> bool:
    """Whether a Chat Completions request, in any of the forms, tells the model not to think."""
    return any(body.get(name) == value for name, value in _DISABLING_FIELDS)


def _openai_fields(reasoning: ReasoningRequest) -> JsonObject:
    level = "none" if reasoning.enabled is False else reasoning.level
    return {"reasoning_effort": level} if level else {}


def _openrouter_fields(reasoning: ReasoningRequest) -> JsonObject:
    if reasoning.enabled is False:
        return {"reasoning": {"enabled": False}}
    if reasoning.budget is not None:
        return {"reasoning": {"max_tokens": reasoning.budget}}
    if reasoning.effort:
        return {"reasoning": {"effort": reasoning.effort}}
    return {"reasoning": {"enabled": True}} if reasoning.enabled else {}


def _template_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Servers of local models: what a chat template knows, under either name, and three levels."""
    if reasoning.enabled is False:
        return {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}
    # An effort alone must not switch the thinking of a local model on: it may take minutes.
    level = reasoning.level if reasoning.enabled else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _effort_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Services with three levels. As with local models, an effort alone switches nothing on."""
    if reasoning.enabled is False:
        return {"reasoning_effort": "none"}
    level = reasoning.level if reasoning.enabled else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _toggle_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Together: models that think by default have a switch, and others levels, of which none is an off."""
    return (
        {"reasoning": {"enabled": False}}
        if reasoning.enabled is False
        else _effort_fields(reasoning)
    )


def _thinking_fields(reasoning: ReasoningRequest) -> JsonObject:
    """DeepSeek, GLM, Moonshot: a switch of Anthropic's own shape, without a budget, and three levels beside it.

    Their models think unless told otherwise, so that an effort alone says something. The levels are those of DeepSeek's
    table, as Moonshot takes levels that it doesn't know for the highest.
    """
    switch = (
        {}
        if reasoning.enabled is None
        else {"thinking": {"type": "enabled" if reasoning.enabled else "disabled"}}
    )
    level = reasoning.level if reasoning.enabled is not False else None
    return switch | (
        {"reasoning_effort": level if level in ("low", "max") else "high"} if level else {}
    )


def _enable_thinking_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Qwen."""
    if reasoning.enabled is None:
        return {}
    return {
        "enable_thinking": reasoning.enabled,
        **({"thinking_budget": reasoning.budget} if reasoning.budget else {}),
    }


def _split_fields(reasoning: ReasoningRequest) -> JsonObject:
    """MiniMax: the reasoning is to be kept out of the text, and whether there is any."""
    switch = (
        {}
        if reasoning.enabled is None
        else {"thinking": {"type": "adaptive" if reasoning.enabled else "disabled"}}
    )
    return {"reasoning_split": True, **switch}


def _responses_fields(reasoning: ReasoningRequest) -> JsonObject:
    """OpenAI's Responses API: the model's reasoning is told, and can come back, only where it is asked for. Models that
    don't reason refuse to be asked, so it is not done for clients that would not see it.
    """
    summary_fields = (
        {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        if reasoning.enabled
        else {}
    )
    return {**_openai_fields(reasoning), **summary_fields}


def _no_fields(_: ReasoningRequest) -> JsonObject:
    return {}


_DISABLING_FIELDS: tuple[tuple[str, object], ...] = (
    ("reasoning_effort", "none"),
    ("reasoning", {"enabled": False}),
    ("thinking", {"type": "disabled"}),
    ("enable_thinking", False),
)

_CONVERTERS: dict[str, Callable[[ReasoningRequest], JsonObject]] = {
    "openai": _openai_fields,
    "openrouter": _openrouter_fields,
    "template": _template_fields,
    "effort": _effort_fields,
    "toggle": _toggle_fields,
    "thinking": _thinking_fields,
    "enable_thinking": _enable_thinking_fields,
    "split": _split_fields,
    "responses": _responses_fields,
    "none": _no_fields,
}
