"""The tools that a request really has: its list, and what system messages of the conversation changed about it.

Source: the API's types of `tool_addition` and `tool_removal` (beta mid-conversation-tool-changes-2026-07-01).
"""

from collections.abc import Iterable

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject


def apply_tool_changes(request: JsonObject) -> list[JsonObject]:
    """The definitions of a checked request's tools as they are after its last message, in the order of their coming.

    References to tools of MCP servers change nothing, as those servers' tools are not here.
    """
    tools: list[JsonObject] = list(request.get("tools") or ())
    index_by_name = {_get_name(tool): index for index, tool in enumerate(tools)}
    removed: set[str] = set()
    for change in _find_changes(request["messages"]):
        subject = change["tool"]
        if subject["type"] == "tool_definition":
            _define_tool(subject["definition"], tools, index_by_name)
            removed.discard(_get_name(subject["definition"]))
        elif subject["type"] == "tool_reference":
            # A deferred tool of the list is there from the beginning: adding it only ever undoes a removal.
            (removed.add if change["type"] == "tool_removal" else removed.discard)(subject["name"])
    return [tool for tool in tools if _get_name(tool) not in removed]


def _find_changes(messages: list[JsonObject]) -> Iterable[JsonObject]:
    contents = (message.get("content") for message in messages if message["role"] == "system")
    blocks = (block for content in contents if isinstance(content, list) for block in content)
    return (block for block in blocks if block["type"] in TOOL_CHANGE_TYPES)


def _define_tool(tool: JsonObject, tools: list[JsonObject], index_by_name: dict[str, int]) -> None:
    """A tool that is defined again takes the place of the old one. Toolsets have no name to be defined again by."""
    name = _get_name(tool)
    if name and name in index_by_name:
        tools[index_by_name[name]] = tool
        return
    index_by_name[name] = len(tools)
    tools.append(tool)


def _get_name(tool: JsonObject) -> str:
    return tool.get("name") or ""
