"""Extend the system prompt of a Chat Completions request, or move it into user messages."""

from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject


def append_system_text(messages: list[JsonObject], text: str) -> list[JsonObject]:
    """Append `text` to the system prompt, or insert it as the system prompt."""
    first, *rest = messages
    if first["role"] != "system":
        return [openai.system_message(text), *messages]
    return [{**first, "content": _join_contents([first["content"], text])}, *rest]


def merge_system_into_user(messages: list[JsonObject]) -> list[JsonObject]:
    """Merge each system message into the user message after it.

    A system message before another role becomes a user message. Chat templates without a system
    role require alternating roles.
    """
    merged: list[JsonObject] = []
    pending: list[JsonObject] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message)
            continue
        if message["role"] == "user":
            merged.append(_merge_as_user([*pending, message]))
        elif pending:
            merged += [_merge_as_user(pending), message]
        else:
            merged.append(message)
        pending = []
    if pending:
        merged.append(_merge_as_user(pending))
    return merged


def _merge_as_user(messages: list[JsonObject]) -> JsonObject:
    """Return a user message with the other fields of the last message and all contents."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]
    return {
        **messages[-1],
        "role": "user",
        "content": _join_contents([message["content"] for message in messages]),
    }


def _join_contents(contents: list[str | list[JsonObject]]) -> str | list[JsonObject]:
    """Join contents: the result is a string if all of them are strings, else parts."""
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return "\n\n".join(texts)
    parts: list[JsonObject] = []
    for content in contents:
        if isinstance(content, str):
            parts.append(openai.text_part(content))
        else:
            parts += content
    return parts
