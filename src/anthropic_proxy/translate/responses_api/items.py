"""Messages of Chat Completions -> the items of a Responses request's `input`.

System messages stay where they are instead of becoming `instructions`: not all servers know that field (xAI), and OpenAI's
JSON mode looks for the word "JSON" in the input alone.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.responses_api.reasoning import Replayed, replayed
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_content_text


def to_items(messages: list[JsonObject]) -> list[JsonObject]:
    """The items of all messages, in their order. Raises ApiError (400) where there are none."""
    items = [item for message in messages for item in _ROLES[message["role"]](message)]
    if not items:
        raise invalid_request("messages: all messages are empty")
    return items


def _said(message: JsonObject) -> list[JsonObject]:
    return [{"type": "message", "role": message["role"], "content": _content(message["content"])}]


def _result(message: JsonObject) -> list[JsonObject]:
    output = _content(message["content"])
    return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}]


def _answer(message: JsonObject) -> list[JsonObject]:
    """Parts of the content that are no text are the reasoning of another server (Mistral)."""
    thoughts = replayed(message.get(DETAILS))
    text = get_content_text(message.get("content"))
    answer = [_text(text, thoughts)] if text else []
    return _in_order(thoughts, [*answer, *map(_call, message.get("tool_calls") or ())])


def _text(text: str, thoughts: list[Replayed]) -> JsonObject:
    """`phase` says whether it was a remark on the way or the answer; newer models do worse where it is missing."""
    phases = [thought.phase for thought in thoughts if thought.phase]
    item = {"type": "message", "role": "assistant", "content": text}
    return item | {"phase": phases[-1]} if phases else item


def _call(call: JsonObject) -> JsonObject:
    function = call["function"]
    return {
        "type": "function_call",
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
    }


def _in_order(thoughts: list[Replayed], said: list[JsonObject]) -> list[JsonObject]:
    """Each reasoning item in the place that it had. The last of what was said stays behind all of them, as OpenAI refuses
    reasoning that nothing follows; so does reasoning of which nothing came.
    """
    items: list[JsonObject] = []
    done = 0
    for thought in thoughts if said else ():
        before = max(done, min(thought.said_before, len(said) - 1))
        items += [*said[done:before], thought.item]
        done = before
    return [*items, *said[done:]]


def _content(content: str | list[JsonObject]) -> str | list[JsonObject]:
    return content if isinstance(content, str) else [_PARTS[part["type"]](part) for part in content]


def _image(part: JsonObject) -> JsonObject:
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}


_ROLES: dict[str, Callable[[JsonObject], list[JsonObject]]] = {
    "system": _said,
    "developer": _said,
    "user": _said,
    "assistant": _answer,
    "tool": _result,
}
_PARTS: dict[str, Callable[[JsonObject], Any]] = {
    "text": lambda part: {"type": "input_text", "text": part["text"]},
    "image_url": _image,
    "file": lambda part: {"type": "input_file", **part["file"]},
}
