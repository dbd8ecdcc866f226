"""Tools that only Anthropic can run, and the notes and errors about them.

They are never dropped silently. Beside other tools they are left out: the model reads that they are
missing, and the caller finds them in a response header. A request with such tools alone is refused,
as the model would invent results. Only the tool search is dropped without a note, as all the tools
that it could find are offered from the start.
"""

from dataclasses import dataclass

from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.translate.request import builtin_tools, toolsets
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.quoting import shorten

_TOOL_SEARCH_TYPES = ("tool_search_tool_regex", "tool_search_tool_bm25")

# Characters of an error's text.
_MAX_REASONS_LENGTH = 2000

# Anthropic runs these even when the request holds a schema for them.
_SERVER_TOOL_TYPES = ("web_search_", "web_fetch_", "code_execution_", "advisor_", "mcp_toolset")


@dataclass(frozen=True)
class UnavailableTool:
    """A tool that can't be used here."""

    # as the model and the caller know it
    name: str
    # a clause that begins with the name
    reason: str


def is_tool_search(tool: JsonObject) -> bool:
    return (tool.get("type") or "").startswith(_TOOL_SEARCH_TYPES)


def find_unavailable_tools(request: JsonObject, tools: list[JsonObject]) -> list[UnavailableTool]:
    """Return the unavailable ones of `tools` and of the request's MCP servers; each name once."""
    entries = [unavailable for unavailable in map(explain_unavailability, tools) if unavailable]
    entries += [
        _unavailable_mcp_server(server["name"]) for server in request.get("mcp_servers") or ()
    ]
    return list({unavailable.name: unavailable for unavailable in entries}.values())


def explain_unavailability(tool: JsonObject) -> UnavailableTool | None:
    """Return why a tool can't be used here; None for usable tools and for the tool search."""
    kind, name = tool.get("type") or "custom", tool.get("name")
    if is_tool_search(tool):
        return None
    if _runs_at_anthropic(tool, kind):
        if tool.get("mcp_server_name"):
            return _unavailable_mcp_server(tool["mcp_server_name"])
        label = f"{name} ({kind})" if name else kind
        return UnavailableTool(name or kind, f"{shorten(label)} runs on Anthropic's servers")
    callers = tool.get("allowed_callers")
    if callers and "direct" not in callers:
        name = name or kind
        return UnavailableTool(
            name,
            f"{shorten(name)} can only be called from code execution, which runs on Anthropic's servers",
        )
    return None


def require_usable_tools(
    unavailable: list[UnavailableTool], choice: JsonObject, *, has_functions: bool
) -> None:
    """Raise ApiError (400) when only unavailable tools could serve the request."""
    forced = [
        each
        for each in unavailable
        if choice.get("type") == "tool" and each.name == choice.get("name")
    ]
    if forced:
        raise _unavailable_error("tool_choice.name", forced)
    if unavailable and not has_functions and choice.get("type") != "none":
        raise _unavailable_error("tools", unavailable)


def reject_skills(request: JsonObject) -> None:
    """Raise ApiError (400) for skills. A container without skills is harmless."""
    container = request.get("container")
    if isinstance(container, dict) and container.get("skills"):
        raise invalid_request(
            "container.skills: skills run in containers on Anthropic's servers, and this upstream has none; leave them out"
        )


def _runs_at_anthropic(tool: JsonObject, kind: str) -> bool:
    if (
        kind == "custom"
        or toolsets.parse_toolset_family(kind)
        or builtin_tools.is_builtin_type(kind)
    ):
        return False
    # A tool of an unknown type with a name and a schema can be offered like any other function.
    return kind.startswith(_SERVER_TOOL_TYPES) or not (
        tool.get("name") and isinstance(tool.get("input_schema"), dict)
    )


def _unavailable_mcp_server(name: str) -> UnavailableTool:
    return UnavailableTool(
        f"MCP server {name}",
        f"MCP server {shorten(name)} is connected to from Anthropic's servers",
    )


def _unavailable_error(path: str, unavailable: list[UnavailableTool]) -> ApiError:
    reasons = shorten("; ".join(each.reason for each in unavailable), _MAX_REASONS_LENGTH)
    pronoun = "it" if len(unavailable) == 1 else "them"
    return invalid_request(
        f"{path}: {reasons}. This upstream has none: leave {pronoun} out, or offer a tool that the client runs itself"
    )
