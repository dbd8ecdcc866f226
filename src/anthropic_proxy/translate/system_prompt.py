"""The system prompt of a Chat Completions request: what is added to it, and where it goes without a role of its own."""

from anthropic_proxy.wire import openai
from anthropic_proxy.wire.codec import JsonObject


def with_system_text(messages: list[JsonObject], text: str) -> list[JsonObject]:
    """The messages with `text` at the end of the system prompt."""
    first, *rest = messages
    if first["role"] != "system":
        return [openai.system_message(text), *messages]
    return [{**first, "content": _joined(first["content"], text)}, *rest]


def without_system_role(messages: list[JsonObject]) -> list[JsonObject]:
    """Each system message as the beginning of the user's message that follows it: the templates that know no system role
    want user and assistant to take turns. Elsewhere it is a user's message of its own.
    """
    changed: list[JsonObject] = []
    for message in reversed(messages):
        following = changed[-1] if changed else None
        if message["role"] != "system":
            changed.append(message)
        elif following and following["role"] == "user":
            changed[-1] = {**following, "content": _joined(message["content"], following["content"])}
        else:
            changed.append({**message, "role": "user"})
    return changed[::-1]


def _joined(first: str | list[JsonObject], second: str | list[JsonObject]) -> str | list[JsonObject]:
    """Two contents as one: a text where both are."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: str | list[JsonObject]) -> list[JsonObject]:
    return [openai.text_part(content)] if isinstance(content, str) else content
