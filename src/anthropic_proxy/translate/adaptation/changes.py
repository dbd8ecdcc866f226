"""Named changes of a Chat Completions request that an upstream refused.

The rules choose the change and its conditions. A change has no effect on requests that it does not
concern, so a change that is remembered for a model can be applied to all its requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from anthropic_proxy.translate.adaptation.tool_limits import limit_tools, shorten_descriptions
from anthropic_proxy.translate.reasoning.tool_call_signatures import (
    has_call_signature,
    reset_call_signatures,
)
from anthropic_proxy.translate.request.response_format import (
    to_json_object_format,
    to_prompted_format,
)
from anthropic_proxy.translate.request.system_prompt import merge_system_into_user
from anthropic_proxy.translate.request.tool_choice import require_chosen_tool
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

# Ascending; Groq's "default" leaves the effort to the model.
EFFORT_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")

_TOKEN_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")

# Some refusals hold for part of a model's requests only: a temperature while the model thinks, an
# effort beside tools. A condition is the name and the value of a property that a request must have
# for the change to concern it.
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


def _forces_tool_call(body: JsonObject) -> bool:
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


# Properties of a request.
_PROPERTIES: dict[str, Callable[[JsonObject], Any]] = {
    "thinking": parse_thinking_mode,
    "tools": lambda body: "tools" in body,
    "forced_call": _forces_tool_call,
    "stream": lambda body: bool(body.get("stream")),
    "temperature": lambda body: "temperature" in body,
    "signatures": lambda body: any(map(has_call_signature, body["messages"])),
}


def build_condition(name: str, body: JsonObject) -> Condition:
    """Return the condition that requests with the same property as `body` fulfil."""
    return name, _PROPERTIES[name](body)


@dataclass(frozen=True)
class RequestChange:
    """A change of a Chat Completions request."""

    # name of the change, a key of `_CHANGES` or `_MESSAGE_CHANGES`
    change: str
    # the request field that changes
    field: str
    # argument of the change
    value: Any = None
    # whether the change holds for the model, not only for this request
    is_lasting: bool = True
    # conditions on the requests that it concerns
    conditions: tuple[Condition, ...] = ()

    def apply(self, body: JsonObject) -> JsonObject:
        """Return the request with the change, or `body` where a condition is not fulfilled."""
        for name, value in self.conditions:
            if build_condition(name, body) != (name, value):
                return body
        if self.change in _CHANGES:
            return _CHANGES[self.change](body, self.field, self.value)
        change = _MESSAGE_CHANGES[self.change]
        messages = [change(message, self.field, self.value) for message in body["messages"]]
        return {**body, "messages": messages}


def _drop_field(record: JsonObject, field: str) -> JsonObject:
    return {name: value for name, value in record.items() if name != field}


def _rename_field(body: JsonObject, field: str, new_name: str) -> JsonObject:
    return {new_name if name == field else name: value for name, value in body.items()}


def _disable_thinking(body: JsonObject, field: str, value: Any) -> JsonObject:
    """Remove all thinking fields; set `field` where the server needs it to turn thinking off."""
    body = {name: each for name, each in body.items() if name not in THINKING_FIELDS}
    if value is not None:
        body[field] = value
    return body


def _cap_output(body: JsonObject, limit: int) -> JsonObject:
    body = dict(body)
    for name in _TOKEN_LIMIT_FIELDS:
        if name in body:
            body[name] = min(body[name], limit)
    return body


def _choose_nearest_level(body: JsonObject, field: str, allowed: tuple[str, ...]) -> JsonObject:
    """Replace a refused effort by the highest allowed one below it, else by the lowest.

    A request for thinking keeps some thinking, if any level but `none` is allowed.
    """
    requested = body.get(field)
    if requested not in EFFORT_LEVELS or requested in allowed:
        return body
    levels = [level for level in EFFORT_LEVELS[1:] if level in allowed] or [*allowed]
    nearest = levels[0]
    for level in levels:
        if EFFORT_LEVELS.index(level) < EFFORT_LEVELS.index(requested):
            nearest = level
    return {**body, field: nearest}


def _drop_strict_schemas(body: JsonObject) -> JsonObject:
    if "tools" not in body:
        return body
    tools = []
    for tool in body["tools"]:
        tools.append({**tool, "function": _drop_field(tool["function"], "strict")})
    return {**body, "tools": tools}


def _choose_only_tool(body: JsonObject) -> JsonObject:
    """Replace "required" by the tool's name where the request has one tool."""
    tools = body.get("tools", ())
    if body.get("tool_choice") != "required" or len(tools) != 1:
        return body
    choice = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
    return {**body, "tool_choice": choice}


def _merge_system_messages(body: JsonObject) -> JsonObject:
    return {**body, "messages": merge_system_into_user(body["messages"])}


def _separate_tool_results(body: JsonObject, text: str) -> JsonObject:
    """Insert an assistant message between tool results and a user message."""
    messages: list[JsonObject] = []
    for message in body["messages"]:
        if message["role"] == "user" and messages and messages[-1]["role"] == "tool":
            messages.append(openai.assistant_message(text, []))
        messages.append(message)
    return {**body, "messages": messages}


def _add_tool_names(body: JsonObject) -> JsonObject:
    """Add the name of the tool to each tool message."""
    names: dict[str, str] = {}
    messages: list[JsonObject] = []
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool" and names.get(message["tool_call_id"]):
            messages.append({**message, "name": names[message["tool_call_id"]]})
        else:
            messages.append(message)
    return {**body, "messages": messages}


def _drop_from_assistant(message: JsonObject, field: str) -> JsonObject:
    if message["role"] != "assistant":
        return message
    return _drop_field(message, field)


def _add_to_assistant(message: JsonObject, field: str, default: str) -> JsonObject:
    if message["role"] != "assistant":
        return message
    return {field: default, **message}


def _drop_parts_from_assistant(message: JsonObject, kind: str) -> JsonObject:
    """Remove the parts of one kind; the others become plain text."""
    parts = message.get("content")
    if message["role"] != "assistant" or not isinstance(parts, list):
        return message
    others = [part for part in parts if part["type"] != kind]
    if others == parts:
        return message
    return {**message, "content": openai.get_content_text(others)}


def _drop_from_parts(message: JsonObject, field: str) -> JsonObject:
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    return {**message, "content": [_drop_field(part, field) for part in parts]}


_Change = Callable[[JsonObject, str, Any], JsonObject]

# Each row takes the request, and the field and the value of the `RequestChange`.
_CHANGES: dict[str, _Change] = {
    "drop": lambda body, field, _: _drop_field(body, field),
    "rename": _rename_field,
    "set": lambda body, field, value: {**body, field: value},
    "not_thinking": _disable_thinking,
    "at_most": lambda body, _, limit: _cap_output(body, limit),
    "room": lambda body, _, limit: _cap_output(body, limit),
    "nearest": _choose_nearest_level,
    "as_json_object": lambda body, _, __: to_json_object_format(body),
    "no_format": lambda body, _, __: to_prompted_format(body),
    "not_strict": lambda body, _, __: _drop_strict_schemas(body),
    "any_of_one": lambda body, _, __: require_chosen_tool(body),
    "name_the_one": lambda body, _, __: _choose_only_tool(body),
    "fewer_tools": lambda body, _, limit: limit_tools(body, limit),
    "shorter_descriptions": lambda body, _, limit: shorten_descriptions(body, limit),
    "as_user": lambda body, _, __: _merge_system_messages(body),
    "answer_between": lambda body, _, text: _separate_tool_results(body, text),
    "name_results": lambda body, _, __: _add_tool_names(body),
}

# Each row takes one message of the request instead; it is applied to all of them.
_MESSAGE_CHANGES: dict[str, _Change] = {
    "forget": lambda message, field, _: _drop_from_assistant(message, field),
    "forget_parts": lambda message, _, kind: _drop_parts_from_assistant(message, kind),
    "give": _add_to_assistant,
    "unmark": lambda message, _, field: _drop_from_parts(message, field),
    "without_signatures": lambda message, _, __: reset_call_signatures(message),
}
