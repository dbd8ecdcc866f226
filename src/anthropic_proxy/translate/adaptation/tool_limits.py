"""Apply an upstream's limits on the number of tools and the length of their descriptions.

The system prompt names the dropped tools and contains the rest of shortened descriptions.
"""

from anthropic_proxy.translate.notes import TranslationNotes, build_unavailable_note
from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_CONTINUED_MARK = " [continued in the system prompt]"


def limit_tools(body: JsonObject, limit: int) -> JsonObject:
    """Return the request with at most `limit` tools.

    Tools are kept in this order: the tool that must be called, the tools of earlier calls (latest
    call first), the other tools in the order of the list.
    """
    tools = body.get("tools", [])
    if len(tools) <= limit:
        return body
    remaining_names = set(_list_names_by_need(body)[:limit])
    remaining = [tool for tool in tools if _get_name(tool) in remaining_names]
    unavailable = _list_missing(tools, remaining)
    note = build_unavailable_note(TranslationNotes(unavailable=unavailable))
    return {**body, "tools": remaining, "messages": append_system_text(body["messages"], note)}


def list_missing_tools(before: JsonObject, after: JsonObject) -> list[str]:
    """Return the names of the tools of `before` that `after` does not have.

    Returns no names if a named tool must be called, because the others are not needed then.
    """
    if isinstance(before.get("tool_choice"), dict):
        return []
    return _list_missing(before.get("tools", []), after.get("tools", []))


def shorten_descriptions(body: JsonObject, limit: int) -> JsonObject:
    """Return the request with tool descriptions of at most `limit` characters.

    The rest of each description moves into the system prompt.
    """
    tools: list[JsonObject] = []
    continuations: list[str] = []
    for tool in body.get("tools", ()):
        description = tool["function"].get("description", "")
        if len(description) <= limit:
            tools.append(tool)
            continue
        beginning, rest = _split_description(description, limit)
        tools.append({**tool, "function": {**tool["function"], "description": beginning}})
        continuations.append(f"Description of the tool {_get_name(tool)}, continued:\n{rest}")
    if not continuations:
        return body
    messages = append_system_text(body["messages"], "\n\n".join(continuations))
    return {**body, "tools": tools, "messages": messages}


def _list_missing(before: list[JsonObject], after: list[JsonObject]) -> list[str]:
    offered = set(map(_get_name, after))
    return [name for name in map(_get_name, before) if name not in offered]


def _list_names_by_need(body: JsonObject) -> list[str]:
    """Return the names of the tools in descending order of need."""
    offered = dict.fromkeys(map(_get_name, body["tools"]))
    needed: list[str] = []
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        needed.append(choice["function"]["name"])
    for message in reversed(body["messages"]):
        needed += [call["function"]["name"] for call in message.get("tool_calls", ())]
    needed += offered
    return [name for name in dict.fromkeys(needed) if name in offered]


def _split_description(text: str, limit: int) -> tuple[str, str]:
    """Split a description into a beginning of at most `limit` characters, and the rest.

    The beginning ends in a continuation mark. The split is at white space if possible.
    """
    mark = _CONTINUED_MARK
    if limit <= 2 * len(mark):
        mark = ""
    room = limit - len(mark)
    split = max(text.rfind(space, 0, room + 1) for space in " \n")
    if split <= room // 2:
        split = room
    return text[:split].rstrip() + mark, text[split:].lstrip()


def _get_name(tool: JsonObject) -> str:
    name: str = tool["function"]["name"]
    return name
