"""Named changes of a Chat Completions request that an upstream refused.

The rules choose the change. A change returns a request unchanged that it does not concern, so a
change that is remembered for a model can be applied to all its requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.adaptation.conditions import THINKING_FIELDS, Condition, is_fulfilled
from anthropic_proxy.translate.adaptation.tool_limits import limit_tools, shorten_descriptions
from anthropic_proxy.translate.reasoning.tool_call_signatures import reset_call_signatures
from anthropic_proxy.translate.request.response_format import (
    to_json_object_format,
    to_prompted_format,
)
from anthropic_proxy.translate.request.system_prompt import merge_system_into_user
from anthropic_proxy.translate.request.tool_choice import require_chosen_tool
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

# The two names for the token limit.
TOKEN_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")

# Ascending; Groq's "default" leaves the effort to the model.
EFFORT_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")


@dataclass(frozen=True)
class RequestChange:
    """A change of a Chat Completions request."""

    # name of the change, a key of `_CHANGES`
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
        """Return the request with the change; the same object when it does not concern the request."""
        if not all(is_fulfilled(condition, body) for condition in self.conditions):
            return body
        return _CHANGES[self.change](body, self.field, self.value)


def _drop_field(body: JsonObject, field: str, _: Any) -> JsonObject:
    return {name: value for name, value in body.items() if name != field}


def _rename_field(body: JsonObject, field: str, name: str) -> JsonObject:
    return {name if key == field else key: value for key, value in body.items()}


def _set_field(body: JsonObject, field: str, value: Any) -> JsonObject:
    return {**body, field: value}


def _disable_thinking(body: JsonObject, field: str, value: Any) -> JsonObject:
    """Remove all thinking fields, and set the field that turns thinking off where the server needs
    it.
    """
    other_fields = {name: each for name, each in body.items() if name not in THINKING_FIELDS}
    return other_fields if value is None else {**other_fields, field: value}


def _cap_token_limit(body: JsonObject, _: str, limit: int) -> JsonObject:
    return {
        name: min(value, limit) if name in TOKEN_LIMIT_FIELDS else value
        for name, value in body.items()
    }


def _choose_nearest_level(body: JsonObject, field: str, allowed: tuple[str, ...]) -> JsonObject:
    """Replace a refused effort by the highest allowed one below it, else by the lowest.

    A request for thinking keeps some thinking, if any level but `none` is allowed.
    """
    requested = body.get(field)
    if requested not in EFFORT_LEVELS or requested in allowed:
        return body
    levels = [level for level in EFFORT_LEVELS[1:] if level in allowed] or [*allowed]
    lower_levels = [
        level for level in levels if level in EFFORT_LEVELS[: EFFORT_LEVELS.index(requested)]
    ]
    return {**body, field: lower_levels[-1] if lower_levels else levels[0]}


def _request_json_object(body: JsonObject, _: str, __: Any) -> JsonObject:
    return to_json_object_format(body)


def _drop_format(body: JsonObject, _: str, __: Any) -> JsonObject:
    return to_prompted_format(body)


def _drop_strict(body: JsonObject, field: str, _: Any) -> JsonObject:
    tools = [
        {**tool, "function": _drop_field(tool["function"], "strict", None)}
        for tool in body.get(field, ())
    ]
    return {**body, field: tools} if tools else body


def _offer_only_chosen_tool(body: JsonObject, _: str, __: Any) -> JsonObject:
    return require_chosen_tool(body)


def _choose_only_tool(body: JsonObject, field: str, _: Any) -> JsonObject:
    """Replace "required" by the tool's name where the request has one tool."""
    tools = body.get("tools", ())
    if body.get(field) != "required" or len(tools) != 1:
        return body
    return {**body, field: {"type": "function", "function": {"name": tools[0]["function"]["name"]}}}


def _limit_tools(body: JsonObject, _: str, limit: int) -> JsonObject:
    return limit_tools(body, limit)


def _shorten_descriptions(body: JsonObject, _: str, limit: int) -> JsonObject:
    return shorten_descriptions(body, limit)


def _merge_system_into_user(body: JsonObject, _: str, __: Any) -> JsonObject:
    return {**body, "messages": merge_system_into_user(body["messages"])}


def _drop_message_field(body: JsonObject, field: str, _: Any) -> JsonObject:
    messages = [
        _drop_field(message, field, None) if message["role"] == "assistant" else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


def _drop_parts(body: JsonObject, _: str, kind: str) -> JsonObject:
    """Remove the parts of one kind from assistant messages; the rest becomes plain text."""
    return {**body, "messages": [_remove_parts(message, kind) for message in body["messages"]]}


def _remove_parts(message: JsonObject, kind: str) -> JsonObject:
    if message["role"] != "assistant" or not has_part(message, kind):
        return message
    return {
        **message,
        "content": openai.get_content_text(
            [part for part in message["content"] if part["type"] != kind]
        ),
    }


def has_part(message: JsonObject, kind: str) -> bool:
    """Return whether the content of a message has a part of this kind."""
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] == kind for part in content)


def _drop_part_field(body: JsonObject, _: str, part_field: str) -> JsonObject:
    return {
        **body,
        "messages": [_remove_part_field(message, part_field) for message in body["messages"]],
    }


def _remove_part_field(message: JsonObject, part_field: str) -> JsonObject:
    content = message.get("content")
    return (
        {**message, "content": [_drop_field(part, part_field, None) for part in content]}
        if isinstance(content, list)
        else message
    )


def _insert_assistant_messages(body: JsonObject, _: str, text: str) -> JsonObject:
    """Insert an assistant message between tool results and a user message."""
    messages: list[JsonObject] = []
    for message in body["messages"]:
        if message["role"] == "user" and messages and messages[-1]["role"] == "tool":
            messages.append(openai.assistant_message(text, []))
        messages.append(message)
    return {**body, "messages": messages}


def _add_tool_names(body: JsonObject, _: str, __: Any) -> JsonObject:
    """Add the name of the tool to each tool message."""
    names: dict[str, str] = {}
    messages: list[JsonObject] = []
    for message in body["messages"]:
        names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or ()}
        name = names.get(message["tool_call_id"]) if message["role"] == "tool" else None
        messages.append({**message, "name": name} if name else message)
    return {**body, "messages": messages}


def _drop_signatures(body: JsonObject, _: str, __: Any) -> JsonObject:
    return {**body, "messages": list(map(reset_call_signatures, body["messages"]))}


def _set_message_default(body: JsonObject, field: str, value: str) -> JsonObject:
    messages = [
        {field: value, **message} if message["role"] == "assistant" else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


_CHANGES: dict[str, Callable[[JsonObject, str, Any], JsonObject]] = {
    "drop": _drop_field,
    "rename": _rename_field,
    "set": _set_field,
    "not_thinking": _disable_thinking,
    "at_most": _cap_token_limit,
    "room": _cap_token_limit,
    "nearest": _choose_nearest_level,
    "as_json_object": _request_json_object,
    "no_format": _drop_format,
    "not_strict": _drop_strict,
    "any_of_one": _offer_only_chosen_tool,
    "name_the_one": _choose_only_tool,
    "fewer_tools": _limit_tools,
    "shorter_descriptions": _shorten_descriptions,
    "as_user": _merge_system_into_user,
    "forget": _drop_message_field,
    "forget_parts": _drop_parts,
    "unmark": _drop_part_field,
    "give": _set_message_default,
    "answer_between": _insert_assistant_messages,
    "name_results": _add_tool_names,
    "without_signatures": _drop_signatures,
}
