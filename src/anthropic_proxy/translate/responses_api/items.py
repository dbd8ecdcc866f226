"""Convert Chat Completions messages to the items of a Responses request's `input`.

System messages stay in place instead of becoming `instructions`: xAI does not support that field,
and OpenAI's JSON mode looks for the word "JSON" in the input alone.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.responses_api.reasoning import ReasoningItem, parse_reasoning_items
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_content_text


def to_input_items(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the items of all messages, in order. Raises ApiError (400) when there are none."""
    items = [item for message in messages for item in _CONVERTERS[message["role"]](message)]
    if not items:
        raise invalid_request("messages: all messages are empty")
    return items


def _message_items(message: JsonObject) -> list[JsonObject]:
    return [
        {
            "type": "message",
            "role": message["role"],
            "content": _convert_content(message["content"]),
        }
    ]


def _tool_output_items(message: JsonObject) -> list[JsonObject]:
    output = _convert_content(message["content"])
    return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}]


def _assistant_items(message: JsonObject) -> list[JsonObject]:
    """Return the items of an assistant message. Parts that are no text are another server's
    reasoning (Mistral).
    """
    reasoning_items = parse_reasoning_items(message.get(DETAILS))
    text = get_content_text(message.get("content"))
    message_items = [_assistant_message(text, reasoning_items)] if text else []
    return _interleave(
        reasoning_items, [*message_items, *map(_function_call, message.get("tool_calls") or ())]
    )


def _assistant_message(text: str, reasoning_items: list[ReasoningItem]) -> JsonObject:
    """Return the message item. `phase` marks commentary or final text; newer models do worse
    without it.
    """
    phases = [reasoning_item.phase for reasoning_item in reasoning_items if reasoning_item.phase]
    item = {"type": "message", "role": "assistant", "content": text}
    return item | {"phase": phases[-1]} if phases else item


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

    OpenAI refuses reasoning that nothing follows, so the last output stays behind all reasoning,
    and reasoning without any output is dropped.
    """
    items: list[JsonObject] = []
    sent_count = 0
    for reasoning_item in reasoning_items if outputs else ():
        position = max(sent_count, min(reasoning_item.preceding_outputs, len(outputs) - 1))
        items += [*outputs[sent_count:position], reasoning_item.item]
        sent_count = position
    return [*items, *outputs[sent_count:]]


def _convert_content(content: str | list[JsonObject]) -> str | list[JsonObject]:
    return content if isinstance(content, str) else [_PARTS[part["type"]](part) for part in content]


def _input_image(part: JsonObject) -> JsonObject:
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}


_CONVERTERS: dict[str, Callable[[JsonObject], list[JsonObject]]] = {
    "system": _message_items,
    "developer": _message_items,
    "user": _message_items,
    "assistant": _assistant_items,
    "tool": _tool_output_items,
}
_PARTS: dict[str, Callable[[JsonObject], Any]] = {
    "text": lambda part: {"type": "input_text", "text": part["text"]},
    "image_url": _input_image,
    "file": lambda part: {"type": "input_file", **part["file"]},
}
