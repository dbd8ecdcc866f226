"""Convert `thinking` and `output_config.effort` to the upstream's reasoning fields.

A request states at most one of: think (with an effort or a budget in tokens), or don't think.
Models that refuse it are handled by translate/adaptation.
"""

from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject

_ENABLED_TYPES = frozenset({"enabled", "adaptive"})
# "between_tools": no thinking, but short notes between tool calls, which no other API has.
_DISABLED_TYPES = frozenset({"disabled", "between_tools"})

EFFORTS = ("low", "medium", "high", "xhigh", "max")

# Budgets in tokens and the effort that they stand for; the thresholds that other gateways use as well.
_BUDGETS = ((16384, "high"), (4096, "medium"), (0, "low"))


@dataclass(frozen=True)
class ReasoningRequest:
    """How much thinking a request asks for."""

    # None: the request does not say
    enabled: bool | None
    # one of EFFORTS
    effort: str | None
    # tokens
    budget: int | None

    @property
    def level(self) -> str | None:
        """The effort, else the effort that the budget stands for."""
        if self.effort or self.budget is None:
            return self.effort
        return next(effort for least, effort in _BUDGETS if self.budget >= least)


def parse_reasoning_request(request: JsonObject) -> ReasoningRequest:
    """Parse the thinking fields of a validated request. The last message with an effort decides."""
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
    """Return the reasoning fields for this profile; none when the request does not say."""
    return _CONVERTERS[profile.reasoning](parse_reasoning_request(request))


def disables_thinking(body: JsonObject) -> bool:
    """Return whether a Chat Completions request, in any of the forms, turns thinking off."""
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
    """Return the fields of local model servers: both names that chat templates use, and three
    levels.
    """
    if reasoning.enabled is False:
        return {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}
    # An effort alone must not switch the thinking of a local model on: it may take minutes.
    level = reasoning.level if reasoning.enabled else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _effort_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of services with three levels. An effort alone does not turn thinking on."""
    if reasoning.enabled is False:
        return {"reasoning_effort": "none"}
    level = reasoning.level if reasoning.enabled else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _toggle_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return Together's fields: a switch for models that think by default, levels without "off" for
    others.
    """
    return (
        {"reasoning": {"enabled": False}}
        if reasoning.enabled is False
        else _effort_fields(reasoning)
    )


def _thinking_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of DeepSeek, GLM and Moonshot: Anthropic's switch without a budget, and
    three levels.

    Their models think by default, so an effort alone has an effect. The levels are DeepSeek's, as
    Moonshot takes unknown levels for the highest.
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
    """Return Qwen's fields."""
    if reasoning.enabled is None:
        return {}
    return {
        "enable_thinking": reasoning.enabled,
        **({"thinking_budget": reasoning.budget} if reasoning.budget else {}),
    }


def _split_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return MiniMax's fields: keep reasoning out of the text, and whether to reason."""
    switch = (
        {}
        if reasoning.enabled is None
        else {"thinking": {"type": "adaptive" if reasoning.enabled else "disabled"}}
    )
    return {"reasoning_split": True, **switch}


def _responses_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of OpenAI's Responses API, which shows and returns reasoning only on
    request.

    Models without reasoning refuse the request for it, so it is left out for callers that would not
    see reasoning.
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
