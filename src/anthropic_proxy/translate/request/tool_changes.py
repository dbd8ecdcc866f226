"""The tools that a request really has: its list, and what system messages of the conversation changed about it.

Source: the API's types of `tool_addition` and `tool_removal` (beta mid-conversation-tool-changes-2026-07-01).
"""

from collections.abc import Iterable

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject


def effective_tools(request: JsonObject) -> list[JsonObject]:
    """The definitions of a checked request's tools as they are after its last message, in the order of their coming.

    References to tools of MCP servers change nothing, as those servers' tools are not here.
    """
    tools: list[JsonObject] = list(request.get("tools") or ())
    places = {_name(tool): place for place, tool in enumerate(tools)}
    removed: set[str] = set()
    for change in _changes(request["messages"]):
        subject = change["tool"]
        if subject["type"] == "tool_definition":
            _define(subject["definition"], tools, places)
            removed.discard(_name(subject["definition"]))
        elif subject["type"] == "tool_reference":
            # A deferred tool of the list is there from the beginning: adding it only ever undoes a removal.
            (removed.add if change["type"] == "tool_removal" else removed.discard)(subject["name"])
    return [tool for tool in tools if _name(tool) not in removed]


def _changes(messages: list[JsonObject]) -> Iterable[JsonObject]:
    contents = (message.get("content") for message in messages if message["role"] == "system")
    blocks = (block for content in contents if isinstance(content, list) for block in content)
    return (block for block in blocks if block["type"] in TOOL_CHANGE_TYPES)


def _define(tool: JsonObject, tools: list[JsonObject], places: dict[str, int]) -> None:
    """A tool that is defined again takes the place of the old one. Toolsets have no name to be defined again by."""
    name = _name(tool)
    if name and name in places:
        tools[places[name]] = tool
        return
    places[name] = len(tools)
    tools.append(tool)


def _name(tool: JsonObject) -> str:
    return tool.get("name") or ""
