"""Changes of a Chat Completions request that an upstream refused: what can be done to it, each under a name.

Which one is made is decided by adjustments. A change leaves a request alone that it does not concern, so that one that is
remembered for a model can be made to all its requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.adaptation.conditions import THINKING_FIELDS, Condition, holds
from anthropic_proxy.translate.adaptation.tool_limits import fewer_tools, shorter_descriptions
from anthropic_proxy.translate.reasoning.tool_call_signatures import reset_call_signatures
from anthropic_proxy.translate.request.response_format import as_json_object, in_words
from anthropic_proxy.translate.request.system_prompt import without_system_role
from anthropic_proxy.translate.request.tool_choice import any_of_one
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

# The two names for the token limit.
LIMITS = ("max_tokens", "max_completion_tokens")

# From none at all to the highest; the last resort is Groq's word for as much as the model likes.
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")


@dataclass(frozen=True)
class Adjustment:
    """A change of a Chat Completions request: the name of the change, the field that it is about, and its new value.

    lasts: whether it is about the model, and not about this one request. when: what a request is like that it concerns.
    """

    change: str
    field: str
    value: Any = None
    lasts: bool = True
    when: tuple[Condition, ...] = ()

    def apply(self, body: JsonObject) -> JsonObject:
        """The request with the change; the same one where it does not concern it."""
        if not all(holds(condition, body) for condition in self.when):
            return body
        return _CHANGES[self.change](body, self.field, self.value)


def _drop(body: JsonObject, field: str, _: Any) -> JsonObject:
    return {name: value for name, value in body.items() if name != field}


def _rename(body: JsonObject, field: str, name: str) -> JsonObject:
    return {name if key == field else key: value for key, value in body.items()}


def _set(body: JsonObject, field: str, value: Any) -> JsonObject:
    return {**body, field: value}


def _not_thinking(body: JsonObject, field: str, value: Any) -> JsonObject:
    """Without any wish to think; with the server's own word against it, where it needs one."""
    rest = {name: each for name, each in body.items() if name not in THINKING_FIELDS}
    return rest if value is None else {**rest, field: value}


def _at_most(body: JsonObject, _: str, most: int) -> JsonObject:
    return {name: min(value, most) if name in LIMITS else value for name, value in body.items()}


def _nearest(body: JsonObject, field: str, allowed: tuple[str, ...]) -> JsonObject:
    """The highest allowed level that is not above the wanted one, else the lowest. Who wants thinking gets some, if there
    is any.
    """
    wanted = body.get(field)
    if wanted not in LEVELS or wanted in allowed:
        return body
    levels = [level for level in LEVELS[1:] if level in allowed] or [*allowed]
    below = [level for level in levels if level in LEVELS[: LEVELS.index(wanted)]]
    return {**body, field: below[-1] if below else levels[0]}


def _as_json_object(body: JsonObject, _: str, __: Any) -> JsonObject:
    return as_json_object(body)


def _no_format(body: JsonObject, _: str, __: Any) -> JsonObject:
    return in_words(body)


def _not_strict(body: JsonObject, field: str, _: Any) -> JsonObject:
    tools = [
        {**tool, "function": _drop(tool["function"], "strict", None)}
        for tool in body.get(field, ())
    ]
    return {**body, field: tools} if tools else body


def _any_of_one(body: JsonObject, _: str, __: Any) -> JsonObject:
    return any_of_one(body)


def _name_the_one(body: JsonObject, field: str, _: Any) -> JsonObject:
    """ "required" with one tool alone: that tool by its name."""
    tools = body.get("tools", ())
    if body.get(field) != "required" or len(tools) != 1:
        return body
    return {**body, field: {"type": "function", "function": {"name": tools[0]["function"]["name"]}}}


def _fewer_tools(body: JsonObject, _: str, most: int) -> JsonObject:
    return fewer_tools(body, most)


def _shorter_descriptions(body: JsonObject, _: str, most: int) -> JsonObject:
    return shorter_descriptions(body, most)


def _as_user(body: JsonObject, _: str, __: Any) -> JsonObject:
    return {**body, "messages": without_system_role(body["messages"])}


def _forget(body: JsonObject, field: str, _: Any) -> JsonObject:
    messages = [
        _drop(each, field, None) if each["role"] == "assistant" else each
        for each in body["messages"]
    ]
    return {**body, "messages": messages}


def _forget_parts(body: JsonObject, _: str, kind: str) -> JsonObject:
    """Assistant messages without the parts of one kind; the text of the others, as servers without that kind know it."""
    return {**body, "messages": [_without_parts(each, kind) for each in body["messages"]]}


def _without_parts(message: JsonObject, kind: str) -> JsonObject:
    if message["role"] != "assistant" or not has_part(message, kind):
        return message
    return {
        **message,
        "content": openai.get_content_text(
            [part for part in message["content"] if part["type"] != kind]
        ),
    }


def has_part(message: JsonObject, kind: str) -> bool:
    """Whether the content of a message has a part of this kind."""
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] == kind for part in content)


def _unmark(body: JsonObject, _: str, mark: str) -> JsonObject:
    return {**body, "messages": [_unmarked(each, mark) for each in body["messages"]]}


def _unmarked(message: JsonObject, mark: str) -> JsonObject:
    content = message.get("content")
    return (
        {**message, "content": [_drop(part, mark, None) for part in content]}
        if isinstance(content, list)
        else message
    )


def _answer_between(body: JsonObject, _: str, text: str) -> JsonObject:
    """With something that the assistant says between results of tools and what the user says."""
    messages: list[JsonObject] = []
    for message in body["messages"]:
        if message["role"] == "user" and messages and messages[-1]["role"] == "tool":
            messages.append(openai.assistant_message(text, []))
        messages.append(message)
    return {**body, "messages": messages}


def _name_results(body: JsonObject, _: str, __: Any) -> JsonObject:
    """With the name of the tool in each of its results."""
    names: dict[str, str] = {}
    messages: list[JsonObject] = []
    for message in body["messages"]:
        names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or ()}
        name = names.get(message["tool_call_id"]) if message["role"] == "tool" else None
        messages.append({**message, "name": name} if name else message)
    return {**body, "messages": messages}


def _without_signatures(body: JsonObject, _: str, __: Any) -> JsonObject:
    return {**body, "messages": list(map(reset_call_signatures, body["messages"]))}


def _give(body: JsonObject, field: str, value: str) -> JsonObject:
    messages = [
        {field: value, **each} if each["role"] == "assistant" else each for each in body["messages"]
    ]
    return {**body, "messages": messages}


_CHANGES: dict[str, Callable[[JsonObject, str, Any], JsonObject]] = {
    "drop": _drop,
    "rename": _rename,
    "set": _set,
    "not_thinking": _not_thinking,
    "at_most": _at_most,
    "room": _at_most,
    "nearest": _nearest,
    "as_json_object": _as_json_object,
    "no_format": _no_format,
    "not_strict": _not_strict,
    "any_of_one": _any_of_one,
    "name_the_one": _name_the_one,
    "fewer_tools": _fewer_tools,
    "shorter_descriptions": _shorter_descriptions,
    "as_user": _as_user,
    "forget": _forget,
    "forget_parts": _forget_parts,
    "unmark": _unmark,
    "give": _give,
    "answer_between": _answer_between,
    "name_results": _name_results,
    "without_signatures": _without_signatures,
}
