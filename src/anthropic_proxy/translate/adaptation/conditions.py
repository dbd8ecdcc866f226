"""What a request must be like for a change to concern it.

Some refusals hold for a part of a model's requests only: temperature while it thinks, an effort beside tools. So a change
that is remembered comes with facts about the request that was refused, and is made to those that are like it.
"""

from collections.abc import Callable
from typing import Any, Literal

from anthropic_proxy.wire.json_codec import JsonObject

# A fact's name, and what it was.
Condition = tuple[str, Any]

# All that says how much the model is to think, in any upstream's form.
THINKING_FIELDS = (
    "reasoning_effort",
    "reasoning",
    "chat_template_kwargs",
    "thinking",
    "enable_thinking",
    "thinking_budget",
)
_SWITCHES = ("enabled", "enable_thinking", "thinking", "type", "effort")


def parse_thinking_mode(body: JsonObject) -> Literal["on", "off", "unsaid"]:
    """What a Chat Completions request says about thinking. Where it says nothing, models have their own default."""
    values = [body[name] for name in THINKING_FIELDS if name in body]
    if any(map(_disables_thinking, values)):
        return "off"
    return "on" if values else "unsaid"


def _disables_thinking(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_disables_thinking(value[name]) for name in _SWITCHES if name in value)
    return value is False or value in ("none", "disabled")


def forces_tool_call(body: JsonObject) -> bool:
    """Whether the answer has to be a tool call."""
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


_PROPERTIES: dict[str, Callable[[JsonObject], Any]] = {
    "thinking": parse_thinking_mode,
    "tools": lambda body: "tools" in body,
    "forced_call": forces_tool_call,
    "stream": lambda body: bool(body.get("stream")),
    "temperature": lambda body: "temperature" in body,
}


def build_condition(name: str, body: JsonObject) -> Condition:
    """The condition that a request fulfils which is like this one."""
    return name, _PROPERTIES[name](body)


def is_fulfilled(condition: Condition, body: JsonObject) -> bool:
    """Whether a request fulfils it."""
    return build_condition(condition[0], body) == condition
