"""How much the model is to think: `thinking` and `output_config.effort` -> the upstream's own form of it.

A request says at most one thing: to think (so hard, or so many tokens), or not to. What an upstream refuses of it (a model
that can't think, a level that it doesn't know) is learned from its refusal; see translate/adjustments.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.wire.json_codec import JsonObject

_ON = frozenset({"enabled", "adaptive"})
# "between_tools": no thinking, but short notes between tool calls, which no other API has.
_OFF = frozenset({"disabled", "between_tools"})

EFFORTS = ("low", "medium", "high", "xhigh", "max")

# Budgets in tokens and the effort that they stand for; the thresholds that other gateways use as well.
_BUDGETS = ((16384, "high"), (4096, "medium"), (0, "low"))


@dataclass(frozen=True)
class Wish:
    """thinks: whether the model is to think; None when the client said nothing. effort: one of EFFORTS. budget: tokens."""

    thinks: bool | None
    effort: str | None
    budget: int | None

    @property
    def level(self) -> str | None:
        """The effort, else what the budget comes to."""
        if self.effort or self.budget is None:
            return self.effort
        return next(effort for least, effort in _BUDGETS if self.budget >= least)


def wish_of(request: JsonObject) -> Wish:
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
    thinks = True if kind in _ON else False if kind in _OFF else None
    return Wish(thinks, effort, budget if isinstance(budget, int) and budget >= 0 else None)


def to_reasoning(request: JsonObject, dialect: Dialect) -> JsonObject:
    """The fields that say it to an upstream of this dialect; none when the client said nothing."""
    return _FORMS[dialect.reasoning](wish_of(request))


def forbids_thinking(body: JsonObject) -> bool:
    """Whether a Chat Completions request, in any of the forms, tells the model not to think."""
    return any(body.get(name) == value for name, value in _FORBIDDING)


def _openai(wish: Wish) -> JsonObject:
    level = "none" if wish.thinks is False else wish.level
    return {"reasoning_effort": level} if level else {}


def _openrouter(wish: Wish) -> JsonObject:
    if wish.thinks is False:
        return {"reasoning": {"enabled": False}}
    if wish.budget is not None:
        return {"reasoning": {"max_tokens": wish.budget}}
    if wish.effort:
        return {"reasoning": {"effort": wish.effort}}
    return {"reasoning": {"enabled": True}} if wish.thinks else {}


def _template(wish: Wish) -> JsonObject:
    """Servers of local models: what a chat template knows, under either name, and three levels."""
    if wish.thinks is False:
        return {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}
    # An effort alone must not switch the thinking of a local model on: it may take minutes.
    level = wish.level if wish.thinks else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _effort(wish: Wish) -> JsonObject:
    """Services with three levels. As with local models, an effort alone switches nothing on."""
    if wish.thinks is False:
        return {"reasoning_effort": "none"}
    level = wish.level if wish.thinks else None
    return {"reasoning_effort": "high" if level in ("xhigh", "max") else level} if level else {}


def _toggle(wish: Wish) -> JsonObject:
    """Together: models that think by default have a switch, and others levels, of which none is an off."""
    return {"reasoning": {"enabled": False}} if wish.thinks is False else _effort(wish)


def _thinking(wish: Wish) -> JsonObject:
    """DeepSeek, GLM, Moonshot: a switch of Anthropic's own shape, without a budget, and three levels beside it.

    Their models think unless told otherwise, so that an effort alone says something. The levels are those of DeepSeek's
    table, as Moonshot takes levels that it doesn't know for the highest.
    """
    switch = (
        {}
        if wish.thinks is None
        else {"thinking": {"type": "enabled" if wish.thinks else "disabled"}}
    )
    level = wish.level if wish.thinks is not False else None
    return switch | (
        {"reasoning_effort": level if level in ("low", "max") else "high"} if level else {}
    )


def _enable_thinking(wish: Wish) -> JsonObject:
    """Qwen."""
    if wish.thinks is None:
        return {}
    return {
        "enable_thinking": wish.thinks,
        **({"thinking_budget": wish.budget} if wish.budget else {}),
    }


def _split(wish: Wish) -> JsonObject:
    """MiniMax: the reasoning is to be kept out of the text, and whether there is any."""
    switch = (
        {}
        if wish.thinks is None
        else {"thinking": {"type": "adaptive" if wish.thinks else "disabled"}}
    )
    return {"reasoning_split": True, **switch}


def _responses(wish: Wish) -> JsonObject:
    """OpenAI's Responses API: the model's reasoning is told, and can come back, only where it is asked for. Models that
    don't reason refuse to be asked, so it is not done for clients that would not see it.
    """
    told = (
        {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        if wish.thinks
        else {}
    )
    return {**_openai(wish), **told}


def _none(_: Wish) -> JsonObject:
    return {}


_FORBIDDING: tuple[tuple[str, object], ...] = (
    ("reasoning_effort", "none"),
    ("reasoning", {"enabled": False}),
    ("thinking", {"type": "disabled"}),
    ("enable_thinking", False),
)

_FORMS: dict[str, Callable[[Wish], JsonObject]] = {
    "openai": _openai,
    "openrouter": _openrouter,
    "template": _template,
    "effort": _effort,
    "toggle": _toggle,
    "thinking": _thinking,
    "enable_thinking": _enable_thinking,
    "split": _split,
    "responses": _responses,
    "none": _none,
}
