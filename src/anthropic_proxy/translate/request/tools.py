"""Convert tools and tool_choice to functions.

A tool that the client runs becomes a function: tools with a schema as they are; dated types of
Anthropic with the schema of the type (builtin_tools); toolsets as one function per member
(toolsets). Tools that only Anthropic can run are left out, with a note (server_tools).
"""

from collections import Counter

from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.request import builtin_tools, server_tools, toolsets
from anthropic_proxy.translate.request.schemas import is_strict_compatible, to_function_parameters
from anthropic_proxy.translate.request.tool_changes import apply_tool_changes
from anthropic_proxy.translate.tool_names import ToolName, map_caller_names, to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten

# Claude Code's stand-in while real tools are deferred; its description is "never call this tool".
_PLACEHOLDER = "DeferredToolPlaceholder"

# The API has one tool of each dated type.
_MAX_TOOLS_OF_A_TYPE = 20

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def to_tool_fields(request: JsonObject, notes: TranslationNotes) -> JsonObject:
    """Return `tools`, `tool_choice` and `parallel_tool_calls`, each only where needed.

    OpenAI refuses `tools: []`, and the other two without tools. Raises ApiError (400) for tools or
    a tool_choice that can't be translated.
    """
    server_tools.reject_skills(request)
    tools = apply_tool_changes(request)
    choice = request.get("tool_choice") or {}
    _reject_duplicate_names(tools)
    _reject_many_of_a_type(tools)
    usable = _expand_usable_tools(tools)
    unavailable = server_tools.find_unavailable_tools(request, tools)
    server_tools.require_usable_tools(unavailable, choice, has_functions=bool(usable))
    notes.unavailable += [each.name for each in unavailable]
    notes.ignored |= _ignored_notes(tools)
    if not usable:
        return _reject_required_call(choice)
    fields: JsonObject = {"tools": [_function_tool(tool) for tool in usable]}
    if choice:
        fields["tool_choice"] = _convert_choice(choice, usable)
    if disables_parallel_calls(request):
        fields["parallel_tool_calls"] = False
    return fields


def map_tool_names(request: JsonObject) -> dict[str, ToolName]:
    """Return the caller's names of functions that have another name upstream."""
    usable = _expand_usable_tools(apply_tool_changes(request))
    return dict(
        map_caller_names(ToolName(tool["name"], tool.get("toolset_name")) for tool in usable)
    )


def disables_parallel_calls(request: JsonObject) -> bool:
    """Return whether the caller accepts at most one tool call."""
    return bool((request.get("tool_choice") or {}).get("disable_parallel_tool_use"))


def _expand_usable_tools(tools: list[JsonObject]) -> list[JsonObject]:
    """Return the tools for the model, with name and schema; toolset members have `toolset_name`.

    Raises ApiError (400) at the first duplicate name: one entry of the list may expand to many
    tools.
    """
    usable: list[JsonObject] = []
    names: set[str] = set()
    for tool in filter(_is_offered, tools):
        for each in _expand_tool(tool):
            name = _function_name(each)
            if name in names:
                raise _duplicate_names_error()
            names.add(name)
            usable.append(each)
    return usable


def _is_offered(tool: JsonObject) -> bool:
    if tool.get("name") == _PLACEHOLDER and tool.get("defer_loading"):
        return False
    return (
        not server_tools.is_tool_search(tool) and server_tools.explain_unavailability(tool) is None
    )


def _expand_tool(tool: JsonObject) -> list[JsonObject]:
    members = toolsets.expand_members(tool)
    return [builtin_tools.add_builtin_schema(tool)] if members is None else members


def _reject_duplicate_names(tools: list[JsonObject]) -> None:
    names = [tool["name"] for tool in tools if tool.get("name")]
    if len(set(names)) < len(names):
        raise _duplicate_names_error()


def _duplicate_names_error() -> ApiError:
    """Return the API's error. With duplicate names the calls of one tool would reach another."""
    return invalid_request("tools: Tool names must be unique.")


def _reject_many_of_a_type(tools: list[JsonObject]) -> None:
    """Raise ApiError (400) for too many tools of one dated type: each adds kilobytes of
    description.
    """
    kinds = (tool.get("type") or "" for tool in tools)
    families = Counter(
        kind.rpartition("_")[0] for kind in kinds if builtin_tools.is_builtin_type(kind)
    )
    for family, count in families.items():
        if count > _MAX_TOOLS_OF_A_TYPE:
            raise invalid_request(
                f"tools: at most {_MAX_TOOLS_OF_A_TYPE} tools may have the type {family}"
            )


def _ignored_notes(tools: list[JsonObject]) -> set[str]:
    searches = {f"tool {tool['type']}" for tool in tools if server_tools.is_tool_search(tool)}
    return searches.union(*map(toolsets.list_unknown_members, tools))


def _function_tool(tool: JsonObject) -> JsonObject:
    schema = tool["input_schema"]
    parameters, note = to_function_parameters(schema)
    examples = tool.get("input_examples")
    texts = (
        tool.get("description"),
        note,
        examples and f"Examples of arguments: {dumps(examples).decode()}",
    )
    strict = bool(tool.get("strict")) and is_strict_compatible(schema)
    return openai.function_tool(
        _function_name(tool), "\n\n".join(filter(None, texts)), parameters, strict=strict
    )


def _function_name(tool: JsonObject) -> str:
    return to_upstream_name(tool["name"], tool.get("toolset_name"))


def _reject_required_call(choice: JsonObject) -> JsonObject:
    if choice.get("type") in ("any", "tool"):
        raise invalid_request(
            "tool_choice: a tool call is required, but no tool of the request is available here"
        )
    return {}


def _convert_choice(choice: JsonObject, usable: list[JsonObject]) -> str | JsonObject:
    if choice["type"] != "tool":
        return _CHOICES[choice["type"]]
    name = choice.get("name") or ""
    candidates = [tool for tool in usable if tool["name"] == name]
    # A plain tool precedes a toolset member of the same name.
    chosen = [tool for tool in candidates if not tool.get("toolset_name")] or candidates
    if not chosen:
        raise invalid_request(
            f"tool_choice.name: no tool of that name is available: {shorten(name)}"
        )
    if len(chosen) > 1:
        toolset_names = ", ".join(tool["toolset_name"] for tool in chosen)
        raise invalid_request(
            f"tool_choice.name: more than one toolset has {shorten(name)}: {toolset_names}"
        )
    return {"type": "function", "function": {"name": _function_name(chosen[0])}}
