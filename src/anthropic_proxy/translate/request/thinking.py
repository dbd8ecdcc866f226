"""Convert `thinking` and `output_config.effort` to the upstream's reasoning fields.

A request enables thinking (with an effort or a budget in tokens), disables it, or does neither.
translate/adaptation handles models that refuse the fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject

_ENABLED_TYPES = frozenset({"enabled", "adaptive"})
# "between_tools" replaces thinking by short notes between tool calls. Other APIs lack this mode.
_DISABLED_TYPES = frozenset({"disabled", "between_tools"})

_EFFORTS = ("low", "medium", "high", "xhigh", "max")

# Minimum budget in tokens for each effort, as in other gateways.
_BUDGETS = ((16384, "high"), (4096, "medium"), (0, "low"))


@dataclass(frozen=True)
class ReasoningRequest:
    """The thinking settings of a request."""

    # None if the request does not set it
    enabled: bool | None
    # one of _EFFORTS
    effort: str | None
    # in tokens
    budget: int | None

    @property
    def level(self) -> str | None:
        """The effort, or the effort that corresponds to the budget."""
        if self.effort or self.budget is None:
            return self.effort
        return next(effort for least, effort in _BUDGETS if self.budget >= least)


def to_reasoning_fields(request: JsonObject, profile: ProviderProfile) -> JsonObject:
    """Return the reasoning fields for this profile; none if the request sets no thinking."""
    reasoning = _parse_reasoning_request(request)
    fields = _CONVERTERS[profile.reasoning](reasoning)
    if profile.thinking_budget_field and reasoning.budget:
        fields[profile.thinking_budget_field] = reasoning.budget
    return fields


def disables_thinking(body: JsonObject) -> bool:
    """Return whether a Chat Completions request disables thinking, in any provider's form."""
    return any(body.get(name) == value for name, value in _DISABLING_FIELDS)


def _parse_reasoning_request(request: JsonObject) -> ReasoningRequest:
    thinking = request.get("thinking") or {}
    kind = thinking.get("type")
    enabled = None
    if kind in _ENABLED_TYPES:
        enabled = True
    elif kind in _DISABLED_TYPES:
        enabled = False
    budget = thinking.get("budget_tokens") if kind == "enabled" else None
    if not isinstance(budget, int) or budget < 0:
        budget = None
    return ReasoningRequest(enabled, _find_effort(request), budget)


def _find_effort(request: JsonObject) -> str | None:
    """Return the last known effort of a message, or the effort of the request."""
    for holder in (*reversed(request["messages"]), request):
        config = holder.get("output_config")
        if isinstance(config, dict) and config.get("effort") in _EFFORTS:
            effort: str = config["effort"]
            return effort
    return None


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
    if reasoning.enabled:
        return {"reasoning": {"enabled": True}}
    return {}


def _template_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of local model servers; chat templates use one or the other."""
    fields = _effort_fields(reasoning)
    if reasoning.enabled is False:
        fields["chat_template_kwargs"] = {"enable_thinking": False}
    return fields


def _effort_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of services with three levels.

    An effort without `thinking` does not enable thinking, which may take minutes with local models.
    """
    if reasoning.enabled is False:
        return {"reasoning_effort": "none"}
    if not reasoning.enabled or not reasoning.level:
        return {}
    if reasoning.level in ("xhigh", "max"):
        return {"reasoning_effort": "high"}
    return {"reasoning_effort": reasoning.level}


def _toggle_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return Together's fields.

    Models that think by default have a switch; others have levels, but no level for "off".
    """
    if reasoning.enabled is False:
        return {"reasoning": {"enabled": False}}
    return _effort_fields(reasoning)


def _thinking_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of DeepSeek, GLM and Moonshot.

    These are Anthropic's switch without a budget, and three levels. The models think by default, so
    an effort without `thinking` is sent too. The levels are DeepSeek's; Moonshot treats unknown
    levels as the highest.
    """
    fields: JsonObject = {}
    if reasoning.enabled is not None:
        fields["thinking"] = {"type": "enabled" if reasoning.enabled else "disabled"}
    if reasoning.enabled is not False and reasoning.level:
        is_known = reasoning.level in ("low", "max")
        fields["reasoning_effort"] = reasoning.level if is_known else "high"
    return fields


def _enable_thinking_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return Qwen's fields."""
    if reasoning.enabled is None:
        return {}
    fields: JsonObject = {"enable_thinking": reasoning.enabled}
    if reasoning.budget:
        fields["thinking_budget"] = reasoning.budget
    return fields


def _split_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return MiniMax's fields: one to separate reasoning from the text, and a switch."""
    fields: JsonObject = {"reasoning_split": True}
    if reasoning.enabled is not None:
        fields["thinking"] = {"type": "adaptive" if reasoning.enabled else "disabled"}
    return fields


def _responses_fields(reasoning: ReasoningRequest) -> JsonObject:
    """Return the fields of OpenAI's Responses API.

    The API returns reasoning only if the request includes these fields. Models without reasoning
    refuse them, so they are sent only if the client enables thinking.
    """
    fields = _openai_fields(reasoning)
    if reasoning.enabled:
        fields["reasoning"] = {"summary": "auto"}
        fields["include"] = ["reasoning.encrypted_content"]
    return fields


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
