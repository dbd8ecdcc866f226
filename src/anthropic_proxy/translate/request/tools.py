"""Convert tools and tool_choice to functions.

Tools that the client runs become functions: tools with a schema directly, tools with a dated type
with the schema of the type (builtin_tools), and toolsets as one function per member (toolsets).

Tools that only Anthropic can run are dropped if the request has other tools: the system prompt and
a response header list them. A request with only such tools is rejected, because the model would
invent results. The tool search is dropped without a header, because the proxy offers all tools that
it could find.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.request import builtin_tools, toolsets
from anthropic_proxy.translate.request.schemas import is_strict_compatible, to_function_parameters
from anthropic_proxy.translate.tool_names import ToolName, to_upstream_name
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten

# Claude Code's placeholder for deferred tools; its description is "never call this tool".
_PLACEHOLDER = "DeferredToolPlaceholder"

_TOOL_SEARCH_TYPES = ("tool_search_tool_regex", "tool_search_tool_bm25")

# Anthropic runs these tools even if the request has a schema for them.
_SERVER_TOOL_TYPES = ("web_search_", "web_fetch_", "code_execution_", "advisor_", "mcp_toolset")

# Clients need only one tool of each dated type.
_MAX_TOOLS_OF_A_TYPE = 20

# In characters of the error message.
_MAX_REASONS_LENGTH = 2000

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


@dataclass(frozen=True)
class ResolvedTools:
    """The tools of a request, for the upstream's request and the response translation."""

    # `tools`, `tool_choice` and `parallel_tool_calls`, each only if needed: OpenAI refuses
    # `tools: []`, and the others without tools
    fields: JsonObject
    # the client's names of the functions that have another name upstream
    names: Mapping[str, ToolName]
    # whether the client accepts at most one tool call
    single_call: bool


@dataclass(frozen=True)
class _Function:
    """A tool that the client runs."""

    # the tool with name, description and schema
    definition: JsonObject
    caller_name: ToolName
    upstream_name: str


@dataclass(frozen=True)
class _UnavailableTool:
    """A tool that the upstream cannot use."""

    # the name for the model and the client
    name: str
    # a clause that starts with the name
    reason: str


def resolve_tools(request: JsonObject, notes: TranslationNotes) -> ResolvedTools:
    """Resolve the tools and the tool choice of a validated request.

    Raises ApiError (400) for tools or a tool choice that cannot be translated.
    """
    _reject_skills(request)
    definitions = _apply_tool_changes(request)
    _reject_duplicate_names(definitions)
    _reject_many_of_a_type(definitions)
    functions, unavailable = _sort_tools(definitions, notes)
    for server in request.get("mcp_servers") or ():
        unavailable.append(_unavailable_mcp_server(server["name"]))
    # Keep each name once: several tools may belong to one MCP server.
    unavailable = list({tool.name: tool for tool in unavailable}.values())
    choice = request.get("tool_choice") or {}
    single_call = bool(choice.get("disable_parallel_tool_use"))
    _require_usable_tools(functions, unavailable, choice)
    notes.unavailable += [tool.name for tool in unavailable]
    if not functions:
        return ResolvedTools({}, {}, single_call)
    fields: JsonObject = {"tools": [_to_function_tool(function) for function in functions]}
    if choice:
        fields["tool_choice"] = _convert_choice(choice, functions)
    if single_call:
        fields["parallel_tool_calls"] = False
    names = {
        function.upstream_name: function.caller_name
        for function in functions
        if function.upstream_name != function.caller_name.name
    }
    return ResolvedTools(fields, names, single_call)


def _apply_tool_changes(request: JsonObject) -> list[JsonObject]:
    """Return the tool definitions that are valid after the last message, in order of appearance.

    System messages add and remove tools with blocks of type `tool_addition` and `tool_removal`
    (beta mid-conversation-tool-changes-2026-07-01). References to tools of MCP servers have no
    effect, because these tools are not available.
    """
    tools: list[JsonObject] = list(request.get("tools") or ())
    index_by_name = {_get_name(tool): index for index, tool in enumerate(tools)}
    removed: set[str] = set()
    for change in _iterate_tool_changes(request["messages"]):
        subject = change["tool"]
        if subject["type"] == "tool_definition":
            _define_tool(subject["definition"], tools, index_by_name)
            removed.discard(_get_name(subject["definition"]))
        elif subject["type"] != "tool_reference":
            continue
        elif change["type"] == "tool_removal":
            removed.add(subject["name"])
        else:
            # The proxy offers deferred tools from the beginning, so this only reverts a removal.
            removed.discard(subject["name"])
    return [tool for tool in tools if _get_name(tool) not in removed]


def _iterate_tool_changes(messages: list[JsonObject]) -> Iterator[JsonObject]:
    for message in messages:
        content = message.get("content")
        if message["role"] != "system" or not isinstance(content, list):
            continue
        for block in content:
            if block["type"] in TOOL_CHANGE_TYPES:
                yield block


def _define_tool(tool: JsonObject, tools: list[JsonObject], index_by_name: dict[str, int]) -> None:
    """Add a tool, or replace the tool with the same name. Toolsets have no name."""
    name = _get_name(tool)
    if name and name in index_by_name:
        tools[index_by_name[name]] = tool
        return
    index_by_name[name] = len(tools)
    tools.append(tool)


def _get_name(tool: JsonObject) -> str:
    return tool.get("name") or ""


def _reject_skills(request: JsonObject) -> None:
    """Raise ApiError (400) for skills. A container without skills is ignored."""
    container = request.get("container")
    if isinstance(container, dict) and container.get("skills"):
        raise invalid_request(
            "container.skills: skills run in containers on Anthropic's servers, "
            "which this upstream does not have; remove the skills"
        )


def _reject_duplicate_names(tools: list[JsonObject]) -> None:
    names = [tool["name"] for tool in tools if tool.get("name")]
    if len(set(names)) < len(names):
        raise _duplicate_names_error()


def _duplicate_names_error() -> ApiError:
    """Return the API's error for duplicate names, with which calls would be ambiguous."""
    return invalid_request("tools: Tool names must be unique.")


def _reject_many_of_a_type(tools: list[JsonObject]) -> None:
    """Raise ApiError (400) for too many tools of a dated type, with kilobytes of text each."""
    families: Counter[str] = Counter()
    for tool in tools:
        kind = tool.get("type") or "custom"
        if kind != "custom" and builtin_tools.is_builtin_type(kind):
            families[kind.rpartition("_")[0]] += 1
    for family, count in families.items():
        if count > _MAX_TOOLS_OF_A_TYPE:
            raise invalid_request(
                f"tools: the maximum number of tools of type {family} is {_MAX_TOOLS_OF_A_TYPE}"
            )


def _sort_tools(
    definitions: list[JsonObject], notes: TranslationNotes
) -> tuple[list[_Function], list[_UnavailableTool]]:
    """Return the functions for the model, and the unavailable tools.

    Raises ApiError (400) at the first duplicate name, because one definition may expand to many
    functions.
    """
    functions: dict[str, _Function] = {}
    unavailable: list[_UnavailableTool] = []
    for definition in definitions:
        kind = definition.get("type") or "custom"
        if kind.startswith(_TOOL_SEARCH_TYPES):
            notes.ignored.add(f"tool {kind}")
            continue
        expanded = _expand_definition(definition, kind, notes)
        callers = definition.get("allowed_callers")
        if expanded is None:
            unavailable.append(_unavailable_server_tool(definition, kind))
        elif callers and "direct" not in callers:
            unavailable.append(_unavailable_code_tool(definition.get("name") or kind))
        elif not _is_placeholder(definition):
            for tool in expanded:
                function = _to_function(tool)
                if function.upstream_name in functions:
                    raise _duplicate_names_error()
                functions[function.upstream_name] = function
    return list(functions.values()), unavailable


def _is_placeholder(definition: JsonObject) -> bool:
    return definition.get("name") == _PLACEHOLDER and bool(definition.get("defer_loading"))


def _expand_definition(
    definition: JsonObject, kind: str, notes: TranslationNotes
) -> list[JsonObject] | None:
    """Return the tools of a definition with their names and schemas.

    Members of a toolset have `toolset_name`. Returns None for a tool that Anthropic runs.
    """
    if kind == "custom":
        return [definition]
    members = toolsets.expand_members(definition)
    if members is not None:
        notes.ignored |= toolsets.list_unknown_members(definition)
        return members
    if builtin_tools.is_builtin_type(kind):
        return [builtin_tools.add_builtin_schema(definition)]
    has_schema = definition.get("name") and isinstance(definition.get("input_schema"), dict)
    if has_schema and not kind.startswith(_SERVER_TOOL_TYPES):
        # A tool of an unknown type with a schema can be offered like other functions.
        return [definition]
    return None


def _to_function(tool: JsonObject) -> _Function:
    name = ToolName(tool["name"], tool.get("toolset_name"))
    return _Function(tool, name, to_upstream_name(name.name, name.toolset_name))


def _unavailable_server_tool(definition: JsonObject, kind: str) -> _UnavailableTool:
    if definition.get("mcp_server_name"):
        return _unavailable_mcp_server(definition["mcp_server_name"])
    name = definition.get("name")
    label = f"{name} ({kind})" if name else kind
    return _UnavailableTool(name or kind, f"{shorten(label)} runs on Anthropic's servers")


def _unavailable_code_tool(name: str) -> _UnavailableTool:
    reason = "can only be called from code execution, which runs on Anthropic's servers"
    return _UnavailableTool(name, f"{shorten(name)} {reason}")


def _unavailable_mcp_server(name: str) -> _UnavailableTool:
    return _UnavailableTool(
        f"MCP server {name}",
        f"MCP server {shorten(name)} is called from Anthropic's servers",
    )


def _require_usable_tools(
    functions: list[_Function], unavailable: list[_UnavailableTool], choice: JsonObject
) -> None:
    """Raise ApiError (400) if the request needs a tool that is not available."""
    kind = choice.get("type")
    if kind == "tool":
        forced = [tool for tool in unavailable if tool.name == choice.get("name")]
        if forced:
            raise _unavailable_error("tool_choice.name", forced)
    if functions:
        return
    if unavailable and kind != "none":
        raise _unavailable_error("tools", unavailable)
    if kind in ("any", "tool"):
        raise invalid_request(
            "tool_choice: a tool call is required, but the request has no available tool"
        )


def _unavailable_error(path: str, unavailable: list[_UnavailableTool]) -> ApiError:
    reasons = shorten("; ".join(tool.reason for tool in unavailable), _MAX_REASONS_LENGTH)
    pronoun = "it" if len(unavailable) == 1 else "them"
    return invalid_request(
        f"{path}: {reasons}. This upstream does not support {pronoun}: remove {pronoun}, "
        "or offer a tool that the client runs"
    )


def _to_function_tool(function: _Function) -> JsonObject:
    tool = function.definition
    schema = tool["input_schema"]
    parameters, note = to_function_parameters(schema)
    texts = [tool.get("description"), note]
    if tool.get("input_examples"):
        texts.append(f"Examples of arguments: {dumps(tool['input_examples']).decode()}")
    description = "\n\n".join(text for text in texts if text)
    strict = bool(tool.get("strict")) and is_strict_compatible(schema)
    return openai.function_tool(function.upstream_name, description, parameters, strict=strict)


def _convert_choice(choice: JsonObject, functions: list[_Function]) -> str | JsonObject:
    if choice["type"] != "tool":
        return _CHOICES[choice["type"]]
    name = choice.get("name") or ""
    candidates = [function for function in functions if function.caller_name.name == name]
    # A plain tool has precedence over a toolset member with the same name.
    plain_tools = [function for function in candidates if not function.caller_name.toolset_name]
    chosen = plain_tools or candidates
    if not chosen:
        raise invalid_request(
            f"tool_choice.name: the request has no available tool named {shorten(name)}"
        )
    if len(chosen) > 1:
        toolset_names = ", ".join(str(function.caller_name.toolset_name) for function in chosen)
        raise invalid_request(
            f"tool_choice.name: several toolsets have a tool named {shorten(name)}: {toolset_names}"
        )
    return {"type": "function", "function": {"name": chosen[0].upstream_name}}
