"""Apply an upstream's limits on tools: their number, their descriptions, and refused tools.

The system prompt names the dropped tools and contains the rest of shortened descriptions.
"""

import hashlib

from anthropic_proxy.translate.notes import TranslationNotes, build_unavailable_note
from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
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
    remaining = [tool for tool in tools if get_name(tool) in remaining_names]
    return _replace_tools(body, remaining)


def leave_out_tool(body: JsonObject, refused: tuple[str, str]) -> JsonObject:
    """Return the request without the tool that an upstream refused.

    refused: name and fingerprint of the tool. Another tool with the same name stays. So does a
    tool that must be called, because the response would be useless without it.
    """
    tools = body.get("tools", [])
    remaining = [tool for tool in tools if (get_name(tool), get_fingerprint(tool)) != refused]
    choice = body.get("tool_choice")
    is_forced = isinstance(choice, dict) and choice["function"]["name"] == refused[0]
    if len(remaining) == len(tools) or is_forced or (choice == "required" and not remaining):
        return body
    return _replace_tools(body, remaining)


def get_fingerprint(tool: JsonObject) -> str:
    """Return a short hash of the name, the description and the schema of a tool."""
    return hashlib.sha256(dumps(tool["function"])).hexdigest()[:16]


def _replace_tools(body: JsonObject, remaining: list[JsonObject]) -> JsonObject:
    """Return the request with the remaining tools, and a note that names the other ones."""
    unavailable = _list_missing(body["tools"], remaining)
    note = build_unavailable_note(TranslationNotes(unavailable=unavailable))
    changed = {**body, "tools": remaining, "messages": append_system_text(body["messages"], note)}
    if remaining:
        return changed
    # OpenAI refuses an empty list, and the other fields without tools.
    return {name: value for name, value in changed.items() if name not in _TOOL_FIELDS}


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
        continuations.append(f"Description of the tool {get_name(tool)}, continued:\n{rest}")
    if not continuations:
        return body
    messages = append_system_text(body["messages"], "\n\n".join(continuations))
    return {**body, "tools": tools, "messages": messages}


def _list_missing(before: list[JsonObject], after: list[JsonObject]) -> list[str]:
    offered = set(map(get_name, after))
    return [name for name in map(get_name, before) if name not in offered]


def _list_names_by_need(body: JsonObject) -> list[str]:
    """Return the names of the tools in descending order of need."""
    offered = dict.fromkeys(map(get_name, body["tools"]))
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


def get_name(tool: JsonObject) -> str:
    """Return the name of a tool."""
    name: str = tool["function"]["name"]
    return name
