"""Named changes of Chat Completions requests that an upstream refused.

The rules select a change and its conditions. A change has no effect on requests that it does not
concern. So the proxy can remember it for a model and apply it to all requests of the model.

The names of changes are values of the label `change` of a metric, and of a log field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from anthropic_proxy.translate.adaptation import schema_changes
from anthropic_proxy.translate.adaptation.tool_limits import (
    leave_out_tool,
    limit_tools,
    shorten_descriptions,
)
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.reasoning.tool_call_signatures import (
    has_call_signature,
    reset_call_signatures,
)
from anthropic_proxy.translate.request.cache_marks import CACHE_BREAKPOINT
from anthropic_proxy.translate.request.response_format import (
    to_json_object_format,
    to_prompted_format,
)
from anthropic_proxy.translate.request.system_prompt import merge_system_into_user
from anthropic_proxy.translate.request.tool_choice import require_chosen_tool
from anthropic_proxy.translate.request.tool_ids import IdForm, change_call_ids
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

# In ascending order. With Groq's "default" the model determines the effort.
EFFORT_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")

# They request a stream, with usage in its last chunk.
STREAM_FIELDS: JsonObject = {"stream": True, "stream_options": {"include_usage": True}}
_TOKEN_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")

# The field of a request with the changes that only its form in the Responses API needs. It is never
# sent (see `responses_api/request.py`).
RESPONSES_VARIANTS = "responses_variants"

# Some refusals concern only part of a model's requests: a temperature while the model thinks, or an
# effort together with tools. A condition is the name of a request property and its required value.
Condition = tuple[str, Any]

# All fields of any upstream that control thinking.
THINKING_FIELDS = (
    "reasoning_effort",
    "reasoning",
    "chat_template_kwargs",
    "thinking",
    "enable_thinking",
    "thinking_budget",
    "thinking_token_budget",
    "thinking_budget_tokens",
)
_SWITCHES = ("enabled", "enable_thinking", "thinking", "type", "effort")


def parse_thinking_mode(body: JsonObject) -> Literal["on", "off", "unset"]:
    """Return the thinking mode that a Chat Completions request sets.

    The mode is "unset" if no field sets it, and the model uses its default.
    """
    values = [body[name] for name in THINKING_FIELDS if name in body]
    if not values:
        return "unset"
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


def _has_images(body: JsonObject) -> bool:
    for message in body["messages"]:
        parts = message.get("content")
        if isinstance(parts, list) and any(part["type"] == "image_url" for part in parts):
            return True
    return False


# Functions that return the properties of a request.
_PROPERTIES: dict[str, Callable[[JsonObject], Any]] = {
    "thinking": parse_thinking_mode,
    "thinks": lambda body: parse_thinking_mode(body) == "on",
    "tools": lambda body: "tools" in body,
    "images": _has_images,
    "forced_call": _forces_tool_call,
    "stream": lambda body: bool(body.get("stream")),
    "temperature": lambda body: "temperature" in body,
    "signatures": lambda body: any(map(has_call_signature, body["messages"])),
}


def build_condition(name: str, body: JsonObject) -> Condition:
    """Return the condition that a request has the same property as `body`."""
    return name, _PROPERTIES[name](body)


@dataclass(frozen=True)
class RequestChange:
    """A change of a Chat Completions request."""

    # name of the change, a key of `_CHANGES` or `_MESSAGE_CHANGES`
    change: str
    # the field of the request or of its messages
    field: str
    # argument of the change
    value: Any = None
    # whether the change applies to all requests of the model, not only to this request
    is_lasting: bool = True
    # conditions on the requests that it concerns
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What the change is about. A newer change with the same key replaces this one."""
        value = self.value if self.change in _CUMULATIVE_CHANGES else None
        return self.change, self.field, self.conditions, value

    @property
    def concerns_one_tool(self) -> bool:
        """Whether the change leaves out a tool."""
        return self.change == "leave_out_tool"

    def apply(self, body: JsonObject) -> JsonObject:
        """Return the changed request, or `body` if a condition is not met."""
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
    """Remove all thinking fields, and set `field` to `value` unless `value` is None."""
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


def _raise_output(body: JsonObject, minimum: int) -> JsonObject:
    body = dict(body)
    for name in _TOKEN_LIMIT_FIELDS:
        if name in body:
            body[name] = max(body[name], minimum)
    return body


def _drop_output_limit(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if name not in _TOKEN_LIMIT_FIELDS}


def _add_responses_variant(body: JsonObject, variant: str) -> JsonObject:
    variants = {*body.get(RESPONSES_VARIANTS, ()), variant}
    return {**body, RESPONSES_VARIANTS: sorted(variants)}


def _request_stream(body: JsonObject) -> JsonObject:
    if body.get("stream"):
        return body
    return {**body, **STREAM_FIELDS}


def _request_whole(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if name not in STREAM_FIELDS}


def get_output_limit(body: JsonObject) -> int:
    """Return the maximum tokens of the response in a Chat Completions request; 0 if unlimited."""
    limits = [body[name] for name in _TOKEN_LIMIT_FIELDS if name in body]
    return min(limits, default=0)


def _choose_nearest_level(body: JsonObject, field: str, allowed: tuple[str, ...]) -> JsonObject:
    """Replace a refused effort by the next lower allowed level, else by the lowest.

    The result is `none` only if no other level is allowed.
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
    """Replace the tool choice "required" by the tool's name if the request has one tool."""
    tools = body.get("tools", ())
    if body.get("tool_choice") != "required" or len(tools) != 1:
        return body
    choice = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
    return {**body, "tool_choice": choice}


def _merge_system_messages(body: JsonObject) -> JsonObject:
    return {**body, "messages": merge_system_into_user(body["messages"])}


def _separate_tool_results(body: JsonObject, text: str) -> JsonObject:
    """Insert an assistant message with `text` between tool results and a user message."""
    messages: list[JsonObject] = []
    for message in body["messages"]:
        if message["role"] == "user" and messages and messages[-1]["role"] == "tool":
            messages.append(openai.assistant_message(text, []))
        messages.append(message)
    return {**body, "messages": messages}


def _change_call_ids(body: JsonObject, form: IdForm) -> JsonObject:
    return {**body, "messages": change_call_ids(body["messages"], form)}


def _add_tool_names(body: JsonObject) -> JsonObject:
    """Add the tool's name to each tool message."""
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


def _move_tool_parts(body: JsonObject) -> JsonObject:
    """Replace the parts of tool messages by text, with images and files in a user message.

    Text in the place of each image or file refers to it.
    """
    messages: list[JsonObject] = []
    attachments: list[JsonObject] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            text, parts = _separate_parts(message)
            messages.append({**message, "content": text})
            attachments += parts
            continue
        if attachments:
            content: str | list[JsonObject] = ""
            if message["role"] == "user":
                content = message["content"]
            messages.append(_prepend_parts(attachments, content))
            attachments = []
            if message["role"] == "user":
                continue
        messages.append(message)
    if attachments:
        messages.append(_prepend_parts(attachments, ""))
    return {**body, "messages": messages}


def _separate_parts(message: JsonObject) -> tuple[str, list[JsonObject]]:
    """Return the text of a tool message, and its other parts with their labels."""
    if isinstance(message["content"], str):
        return message["content"], []
    texts: list[str] = []
    attachments: list[JsonObject] = []
    for part in message["content"]:
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        number = len(attachments) // 2 + 1
        reference = f"[attachment {number} of the tool result {message['tool_call_id']}]"
        texts.append(f"{reference} follows below")
        attachments += [openai.text_part(f"{reference}:"), part]
    return "\n".join(texts), attachments


def _prepend_parts(parts: list[JsonObject], content: str | list[JsonObject]) -> JsonObject:
    """Return a user message with `parts` before its content."""
    if isinstance(content, str):
        content = [openai.text_part(content)] if content else []
    return {"role": "user", "content": [*parts, *content]}


def _drop_from_details(message: JsonObject, field: str) -> JsonObject:
    """Remove a field from the details of an assistant message's reasoning."""
    details = message.get(DETAILS)
    if not isinstance(details, list):
        return message
    return {**message, DETAILS: [_drop_field(detail, field) for detail in details]}


def _drop_from_assistant(message: JsonObject, field: str) -> JsonObject:
    if message["role"] != "assistant":
        return message
    return _drop_field(message, field)


def _add_to_assistant(message: JsonObject, field: str, default: str) -> JsonObject:
    if message["role"] != "assistant":
        return message
    return {field: default, **message}


def _drop_parts_from_assistant(message: JsonObject, kind: str) -> JsonObject:
    """Remove the parts of one type, and join the others to plain text."""
    parts = message.get("content")
    if message["role"] != "assistant" or not isinstance(parts, list):
        return message
    others = [part for part in parts if part["type"] != kind]
    if others == parts:
        return message
    return {**message, "content": openai.get_content_text(others)}


def _join_texts(message: JsonObject) -> JsonObject:
    """Join parts that are text to a string, without cache marks."""
    parts = message.get("content")
    if not isinstance(parts, list) or any(part["type"] != "text" for part in parts):
        return message
    return {**message, "content": "\n\n".join(part["text"] for part in parts)}


def _fill_content(message: JsonObject) -> JsonObject:
    """Replace the content null of a message with tool calls by an empty string."""
    if "content" in message and message["content"] is None:
        return {**message, "content": ""}
    return message


def _drop_from_parts(message: JsonObject, field: str) -> JsonObject:
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    return {**message, "content": [_drop_field(part, field) for part in parts]}


def _drop_cache_breakpoints(body: JsonObject) -> JsonObject:
    messages = [_drop_from_parts(message, CACHE_BREAKPOINT) for message in body["messages"]]
    return {**_drop_field(body, "prompt_cache_options"), "messages": messages}


def _drop_cache_ttls(message: JsonObject) -> JsonObject:
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    changed_parts = []
    for part in parts:
        changed_part = dict(part)
        if CACHE_BREAKPOINT in part:
            changed_part[CACHE_BREAKPOINT] = _drop_field(part[CACHE_BREAKPOINT], "ttl")
        changed_parts.append(changed_part)
    return {**message, "content": changed_parts}


_Change = Callable[[JsonObject, str, Any], JsonObject]

# Functions of the request, and of the field and the value of the `RequestChange`.
_CHANGES: dict[str, _Change] = {
    "drop": lambda body, field, _: _drop_field(body, field),
    "rename": _rename_field,
    "set": lambda body, field, value: {**body, field: value},
    "disable_thinking": _disable_thinking,
    "limit_output": lambda body, _, limit: _cap_output(body, limit),
    "fit_output_to_context": lambda body, _, limit: _cap_output(body, limit),
    "drop_cache_breakpoints": lambda body, _, __: _drop_cache_breakpoints(body),
    "drop_output_limit": lambda body, _, __: _drop_output_limit(body),
    "raise_output": lambda body, _, minimum: _raise_output(body, minimum),
    "request_stream": lambda body, _, __: _request_stream(body),
    "request_whole": lambda body, _, __: _request_whole(body),
    "choose_nearest_effort": _choose_nearest_level,
    "use_json_object_format": lambda body, _, __: to_json_object_format(body),
    "move_format_to_prompt": lambda body, _, __: to_prompted_format(body),
    "drop_strict": lambda body, _, __: _drop_strict_schemas(body),
    "offer_only_chosen_tool": lambda body, _, __: require_chosen_tool(body),
    "choose_only_tool": lambda body, _, __: _choose_only_tool(body),
    "limit_tools": lambda body, _, limit: limit_tools(body, limit),
    "shorten_descriptions": lambda body, _, limit: shorten_descriptions(body, limit),
    "merge_system_into_user": lambda body, _, __: _merge_system_messages(body),
    "separate_tool_results": lambda body, _, text: _separate_tool_results(body, text),
    "move_tool_parts": lambda body, _, __: _move_tool_parts(body),
    "omit_store": lambda body, _, __: _add_responses_variant(body, "omit_store"),
    "omit_strict": lambda body, _, __: _add_responses_variant(body, "omit_strict"),
    "omit_detail": lambda body, _, __: _add_responses_variant(body, "omit_detail"),
    "use_instructions": lambda body, _, __: _add_responses_variant(body, "use_instructions"),
    "add_tool_names": lambda body, _, __: _add_tool_names(body),
    "drop_schema_keywords": lambda body, _, names: schema_changes.drop_schema_keywords(body, names),
    "simplify_schemas": lambda body, _, __: schema_changes.simplify_for_grammar(body),
    "define_items": lambda body, _, __: schema_changes.define_items(body),
    "define_properties": lambda body, _, __: schema_changes.define_properties(body),
    "prune_required": lambda body, _, __: schema_changes.prune_required_names(body),
    "move_types_into_branches": lambda body, _, __: schema_changes.move_types_into_branches(body),
    "use_single_types": lambda body, _, __: schema_changes.use_single_types(body),
    "use_uniform_items": lambda body, _, __: schema_changes.use_uniform_items(body),
    "drop_reference_siblings": lambda body, _, __: schema_changes.drop_reference_siblings(body),
    "leave_out_tool": lambda body, _, tool: leave_out_tool(body, tool),
    "change_call_ids": lambda body, _, form: _change_call_ids(body, form),
}

# Changes that are needed for each of their values.
_CUMULATIVE_CHANGES = frozenset({"drop_schema_keywords", "leave_out_tool"})

# Functions of one message instead of the request. They are applied to all messages.
_MESSAGE_CHANGES: dict[str, _Change] = {
    "drop_from_assistant": lambda message, field, _: _drop_from_assistant(message, field),
    "drop_from_details": lambda message, field, _: _drop_from_details(message, field),
    "drop_assistant_parts": lambda message, _, kind: _drop_parts_from_assistant(message, kind),
    "add_to_assistant": _add_to_assistant,
    "join_texts": lambda message, _, __: _join_texts(message),
    "fill_content": lambda message, _, __: _fill_content(message),
    "drop_cache_ttls": lambda message, _, __: _drop_cache_ttls(message),
    "drop_from_parts": lambda message, _, field: _drop_from_parts(message, field),
    "reset_signatures": lambda message, _, __: reset_call_signatures(message),
}
