"""Conditions on the requests that a change concerns.

Some refusals hold for part of a model's requests only: a temperature while the model thinks, an
effort beside tools. A remembered change therefore stores properties of the refused request and is
applied to requests that share them.
"""

from collections.abc import Callable
from typing import Any, Literal

from anthropic_proxy.translate.reasoning.tool_call_signatures import has_call_signature
from anthropic_proxy.wire.json_codec import JsonObject

# Name and value of a property of the refused request.
Condition = tuple[str, Any]

# Every field that controls thinking, in any upstream's form.
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
    """Return the thinking mode that a Chat Completions request sets.

    "unsaid" without a field: models then use their own default.
    """
    values = [body[name] for name in THINKING_FIELDS if name in body]
    if not values:
        return "unsaid"
    if any(map(_disables_thinking, values)):
        return "off"
    return "on"


def _disables_thinking(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_disables_thinking(value[name]) for name in _SWITCHES if name in value)
    return value is False or value in ("none", "disabled")


def forces_tool_call(body: JsonObject) -> bool:
    """Return whether the response must be a tool call."""
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


_PROPERTIES: dict[str, Callable[[JsonObject], Any]] = {
    "thinking": parse_thinking_mode,
    "tools": lambda body: "tools" in body,
    "forced_call": forces_tool_call,
    "stream": lambda body: bool(body.get("stream")),
    "temperature": lambda body: "temperature" in body,
    "signatures": lambda body: any(map(has_call_signature, body["messages"])),
}


def build_condition(name: str, body: JsonObject) -> Condition:
    """Return the condition that requests with the same property as `body` fulfil."""
    return name, _PROPERTIES[name](body)


def is_fulfilled(condition: Condition, body: JsonObject) -> bool:
    """Return whether a request fulfils a condition."""
    return build_condition(condition[0], body) == condition
