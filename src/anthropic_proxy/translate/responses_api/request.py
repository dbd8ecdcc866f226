"""Convert a Chat Completions request to a Responses request.

A table contains the fields that differ. Other fields are sent unchanged: both APIs have them
(`temperature`, `service_tier`, `stream`), or the upstream refuses them. The upstream does not store
responses, so a request contains the complete conversation with the encrypted reasoning of earlier
turns.

Messages become the items of `input`. System messages do not become `instructions`, because xAI does
not support this field, and OpenAI's JSON mode searches only the input for the word "JSON".
Some servers refuse parts of this form. The field RESPONSES_VARIANTS of a Chat Completions request
names the changes of the form that a server needs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.adaptation.changes import RESPONSES_VARIANTS
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.request.cache_marks import CACHE_BREAKPOINT
from anthropic_proxy.translate.responses_api.reasoning import ReasoningItem, parse_reasoning_items
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_content_text

# OpenAI refuses lower limits.
MIN_OUTPUT_TOKENS = 16

# The usage is always in the response.
_DROPPED_FIELDS = frozenset({"stream_options", RESPONSES_VARIANTS})


def to_responses_request(body: JsonObject) -> JsonObject:
    """Return the Responses request for a Chat Completions request, with or without `stream`.

    Output limits below 16 tokens become 16. In addition to the fields of Chat Completions, `body`
    may have `reasoning` (`{"summary": "auto"}`) and `include` in this API's form. Raises ApiError
    (400) if the messages are empty.
    """
    request: JsonObject = {}
    for name, value in body.items():
        if name not in _DROPPED_FIELDS:
            path, convert = _FIELDS.get(name, (name, _unchanged))
            _set_path(request, path, convert(value))
    request["store"] = False
    for variant in body.get(RESPONSES_VARIANTS, ()):
        _VARIANTS[variant](request)
    return request


def _set_path(request: JsonObject, path: str, value: Any) -> None:
    """Set a field, or a nested field for a path such as `text.format`."""
    name, _, nested_name = path.partition(".")
    if nested_name:
        request.setdefault(name, {})[nested_name] = value
    else:
        request[name] = value


# Messages.


def _to_input_items(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the items of all messages, in order. Raises ApiError (400) if there are none."""
    items: list[JsonObject] = []
    for message in messages:
        items += _CONVERTERS[message["role"]](message)
    if not items:
        raise invalid_request("messages: all messages are empty")
    return items


def _message_items(message: JsonObject) -> list[JsonObject]:
    content = _convert_content(message["content"])
    return [{"type": "message", "role": message["role"], "content": content}]


def _tool_output_items(message: JsonObject) -> list[JsonObject]:
    output = _convert_content(message["content"])
    return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}]


def _assistant_items(message: JsonObject) -> list[JsonObject]:
    """Return the items of an assistant message.

    Content parts that are not text are dropped: they are reasoning of another server (Mistral).
    """
    reasoning_items = parse_reasoning_items(message.get(DETAILS))
    outputs: list[JsonObject] = []
    text = get_content_text(message.get("content"))
    if text:
        outputs.append(_assistant_message(text, reasoning_items))
    outputs += map(_function_call, message.get("tool_calls") or ())
    return _interleave(reasoning_items, outputs)


def _assistant_message(text: str, reasoning_items: list[ReasoningItem]) -> JsonObject:
    """Return the message item.

    Its `phase` marks commentary or final text; it improves the results of newer models.
    """
    item: JsonObject = {"type": "message", "role": "assistant", "content": text}
    phases = [reasoning_item.phase for reasoning_item in reasoning_items if reasoning_item.phase]
    if phases:
        item["phase"] = phases[-1]
    return item


def _function_call(call: JsonObject) -> JsonObject:
    function = call["function"]
    return {
        "type": "function_call",
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
    }


def _interleave(
    reasoning_items: list[ReasoningItem], outputs: list[JsonObject]
) -> list[JsonObject]:
    """Insert each reasoning item at its original position.

    OpenAI refuses reasoning without a following output. So the last output is always after all
    reasoning, and reasoning without outputs is dropped.
    """
    if not outputs:
        return []
    items: list[JsonObject] = []
    sent_count = 0
    for reasoning_item in reasoning_items:
        position = max(sent_count, min(reasoning_item.preceding_outputs, len(outputs) - 1))
        items += outputs[sent_count:position]
        items.append(reasoning_item.item)
        sent_count = position
    return items + outputs[sent_count:]


def _convert_content(content: str | list[JsonObject]) -> str | list[JsonObject]:
    if isinstance(content, str):
        return content
    return [_convert_part(part) for part in content]


def _convert_part(part: JsonObject) -> JsonObject:
    converted = _PARTS[part["type"]](part)
    if CACHE_BREAKPOINT in part:
        converted[CACHE_BREAKPOINT] = part[CACHE_BREAKPOINT]
    return converted


def _input_text(part: JsonObject) -> JsonObject:
    return {"type": "input_text", "text": part["text"]}


def _input_image(part: JsonObject) -> JsonObject:
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}


def _input_file(part: JsonObject) -> JsonObject:
    return {"type": "input_file", **part["file"]}


_CONVERTERS: dict[str, Callable[[JsonObject], list[JsonObject]]] = {
    "system": _message_items,
    "developer": _message_items,
    "user": _message_items,
    "assistant": _assistant_items,
    "tool": _tool_output_items,
}
_PARTS: dict[str, Callable[[JsonObject], JsonObject]] = {
    "text": _input_text,
    "image_url": _input_image,
    "file": _input_file,
}


# Other fields.


def _unchanged(value: Any) -> Any:
    return value


def _convert_tools(tools: list[JsonObject]) -> list[JsonObject]:
    """Return the tools with an explicit `strict`.

    The API's default is strict, but many schemas do not support it.
    """
    return [{"type": "function", "strict": False, **tool["function"]} for tool in tools]


def _convert_tool_choice(choice: str | JsonObject) -> str | JsonObject:
    if isinstance(choice, str):
        return choice
    return {"type": "function", "name": choice["function"]["name"]}


def _convert_format(response_format: JsonObject) -> JsonObject:
    return {"type": response_format["type"], **response_format.get("json_schema", {})}


def _raise_to_minimum(tokens: int) -> int:
    return max(tokens, MIN_OUTPUT_TOKENS)


# Path and conversion of the value, by the name in Chat Completions.
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "messages": ("input", _to_input_items),
    "tools": ("tools", _convert_tools),
    "tool_choice": ("tool_choice", _convert_tool_choice),
    "max_tokens": ("max_output_tokens", _raise_to_minimum),
    "max_completion_tokens": ("max_output_tokens", _raise_to_minimum),
    "response_format": ("text.format", _convert_format),
    "verbosity": ("text.verbosity", _unchanged),
    "reasoning_effort": ("reasoning.effort", _unchanged),
    "reasoning": ("reasoning.summary", lambda reasoning: reasoning.get("summary")),
}


# Variants of the form, which change a request in place.


def _omit_store(request: JsonObject) -> None:
    request.pop("store", None)


def _omit_strict(request: JsonObject) -> None:
    for tool in request.get("tools", ()):
        tool.pop("strict", None)


def _omit_detail(request: JsonObject) -> None:
    for item in request["input"]:
        parts = item.get("content") or item.get("output")
        for part in parts if isinstance(parts, list) else ():
            part.pop("detail", None)


def _use_instructions(request: JsonObject) -> None:
    """Move the system messages to `instructions`.

    Those within the conversation become developer messages. The servers that need this require
    instructions also for a conversation without a system message.
    """
    texts: list[str] = []
    items: list[JsonObject] = []
    for item in request["input"]:
        if item.get("role") != "system":
            items.append(item)
        elif items:
            items.append({**item, "role": "developer"})
        else:
            texts.append(_join_input_texts(item["content"]))
    request["input"] = items
    request["instructions"] = "\n\n".join(texts) or _DEFAULT_INSTRUCTIONS


def _join_input_texts(content: str | list[JsonObject]) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(part["text"] for part in content)


_DEFAULT_INSTRUCTIONS = "You are a helpful assistant."

_VARIANTS: Mapping[str, Callable[[JsonObject], None]] = {
    "omit_store": _omit_store,
    "omit_strict": _omit_strict,
    "omit_detail": _omit_detail,
    "use_instructions": _use_instructions,
}
