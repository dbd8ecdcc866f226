"""Fit tools into an upstream's limits on their number and the length of their descriptions.

Nothing is dropped silently: the system prompt names the missing tools and continues the shortened
descriptions.
"""

from collections.abc import Iterable

from anthropic_proxy.translate.notes import TranslationNotes, build_unavailable_note
from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_CONTINUED_MARK = " [continued in the system prompt]"


def limit_tools(body: JsonObject, limit: int) -> JsonObject:
    """Return the request with at most `limit` tools.

    Kept are the tool that must be called, then the called tools, last call first, then the first
    ones of the list.
    """
    tools = body.get("tools", [])
    if len(tools) <= limit:
        return body
    remaining_names = set(_names_by_need(body)[:limit])
    remaining = {"tools": [tool for tool in tools if _tool_name(tool) in remaining_names]}
    note = build_unavailable_note(TranslationNotes(unavailable=_missing_names(body, remaining)))
    return {**body, **remaining, "messages": append_system_text(body["messages"], note)}


def list_missing_tools(before: JsonObject, after: JsonObject) -> list[str]:
    """Return the names of tools that `before` offers and `after` does not; empty when a named tool
    must be called.
    """
    return [] if isinstance(before.get("tool_choice"), dict) else _missing_names(before, after)


def shorten_descriptions(body: JsonObject, limit: int) -> JsonObject:
    """Return the request with tool descriptions of at most `limit` characters; the rest moves into
    the system prompt.
    """
    long_tools = [tool for tool in body.get("tools", ()) if len(_tool_description(tool)) > limit]
    if not long_tools:
        return body
    continuations = [
        f"Description of the tool {_tool_name(tool)}, continued:\n{_split_description(_tool_description(tool), limit)[1]}"
        for tool in long_tools
    ]
    tools = [_shorten_description(tool, limit) for tool in body["tools"]]
    return {
        **body,
        "tools": tools,
        "messages": append_system_text(body["messages"], "\n\n".join(continuations)),
    }


def _missing_names(before: JsonObject, after: JsonObject) -> list[str]:
    offered = set(map(_tool_name, after.get("tools", ())))
    return [name for name in map(_tool_name, before.get("tools", ())) if name not in offered]


def _names_by_need(body: JsonObject) -> list[str]:
    choice = body.get("tool_choice")
    chosen = [choice["function"]["name"]] if isinstance(choice, dict) else []
    offered = dict.fromkeys(map(_tool_name, body["tools"]))
    return [
        name
        for name in dict.fromkeys((*chosen, *_called_names(body["messages"]), *offered))
        if name in offered
    ]


def _called_names(messages: list[JsonObject]) -> Iterable[str]:
    """Yield the names of called tools, the last call first."""
    for message in reversed(messages):
        yield from (call["function"]["name"] for call in message.get("tool_calls", ()))


def _shorten_description(tool: JsonObject, limit: int) -> JsonObject:
    description = _tool_description(tool)
    if len(description) <= limit:
        return tool
    return {
        **tool,
        "function": {**tool["function"], "description": _split_description(description, limit)[0]},
    }


def _split_description(text: str, limit: int) -> tuple[str, str]:
    """Return a beginning of at most `limit` characters with a continuation mark, and the rest.

    The split is at white space where possible.
    """
    mark = _CONTINUED_MARK if limit > 2 * len(_CONTINUED_MARK) else ""
    room = limit - len(mark)
    end = max(text.rfind(space, 0, room + 1) for space in " \n")
    split = end if end > room // 2 else room
    return text[:split].rstrip() + mark, text[split:].lstrip()


def _tool_name(tool: JsonObject) -> str:
    name: str = tool["function"]["name"]
    return name


def _tool_description(tool: JsonObject) -> str:
    description: str = tool["function"].get("description", "")
    return description
