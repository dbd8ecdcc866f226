"""Apply the tool changes in system messages to a request's tool list.

Source: the API's types of `tool_addition` and `tool_removal` (beta
mid-conversation-tool-changes-2026-07-01).
"""

from collections.abc import Iterable

from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject


def apply_tool_changes(request: JsonObject) -> list[JsonObject]:
    """Return the tool definitions after the last message of a validated request, in order of
    appearance.

    References to tools of MCP servers have no effect, as those tools are not available here.
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
    """Add a tool, or replace the one with its name. Toolsets have no name."""
    name = _get_name(tool)
    if name and name in index_by_name:
        tools[index_by_name[name]] = tool
        return
    index_by_name[name] = len(tools)
    tools.append(tool)


def _get_name(tool: JsonObject) -> str:
    return tool.get("name") or ""
