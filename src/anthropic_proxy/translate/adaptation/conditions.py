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


def thinking_of(body: JsonObject) -> Literal["on", "off", "unsaid"]:
    """What a Chat Completions request says about thinking. Where it says nothing, models have their own default."""
    said = [body[name] for name in THINKING_FIELDS if name in body]
    if any(map(_forbids, said)):
        return "off"
    return "on" if said else "unsaid"


def _forbids(said: Any) -> bool:
    if isinstance(said, dict):
        return any(_forbids(said[name]) for name in _SWITCHES if name in said)
    return said is False or said in ("none", "disabled")


def forces_a_call(body: JsonObject) -> bool:
    """Whether the answer has to be a tool call."""
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


_FACTS: dict[str, Callable[[JsonObject], Any]] = {
    "thinking": thinking_of,
    "tools": lambda body: "tools" in body,
    "forced_call": forces_a_call,
    "stream": lambda body: bool(body.get("stream")),
    "temperature": lambda body: "temperature" in body,
}


def fact(name: str, body: JsonObject) -> Condition:
    """The condition that a request fulfils which is like this one."""
    return name, _FACTS[name](body)


def holds(condition: Condition, body: JsonObject) -> bool:
    """Whether a request fulfils it."""
    return fact(condition[0], body) == condition
