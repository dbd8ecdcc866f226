"""Tools and tool_choice -> functions.

Tools that Anthropic defines by a dated type have no schema to pass on. They are never dropped in silence: the model is
told that it does not have them (see `unavailable_note`), and the client reads it in a response header.
"""

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.names import upstream_name
from anthropic_proxy.translate.notes import Notes
from anthropic_proxy.translate.request.schemas import fits_strict, legal_parameters
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.codec import JsonObject, dumps

# Claude Code's stand-in while real tools are deferred; its description is "never call this tool".
_PLACEHOLDER = "DeferredToolPlaceholder"

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def to_tools(request: JsonObject, notes: Notes) -> JsonObject:
    """`tools`, `tool_choice` and `parallel_tool_calls`, each only where it says something: OpenAI refuses `tools: []`,
    and the other two without tools. Raises ApiError (400) for a tool_choice that can't be kept.
    """
    functions = [_function(tool) for tool in request.get("tools") or () if _is_usable(tool, notes)]
    choice = request.get("tool_choice") or {}
    if not functions:
        return _without_tools(choice)
    fields: JsonObject = {"tools": functions}
    if choice:
        fields["tool_choice"] = _tool_choice(choice, functions)
    if choice.get("disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False
    return fields


def unavailable_note(notes: Notes) -> str:
    """What the model is told about tools that it was promised and doesn't have; empty when there are none."""
    if not notes.unavailable:
        return ""
    names = ", ".join(notes.unavailable)
    return f"These tools are not available in this session: {names}. Say so if the task needs them; do not invent results."


def _is_usable(tool: JsonObject, notes: Notes) -> bool:
    if tool.get("type") not in (None, "custom"):
        notes.unavailable.append(tool.get("name") or tool["type"])
        return False
    return not (tool["name"] == _PLACEHOLDER and tool.get("defer_loading"))


def _function(tool: JsonObject) -> JsonObject:
    schema = tool["input_schema"]
    parameters, note = legal_parameters(schema)
    examples = tool.get("input_examples")
    texts = (tool.get("description"), note, examples and f"Examples of arguments: {dumps(examples).decode()}")
    strict = bool(tool.get("strict")) and fits_strict(schema)
    return openai.function_tool(upstream_name(tool["name"]), "\n\n".join(filter(None, texts)), parameters, strict=strict)


def _without_tools(choice: JsonObject) -> JsonObject:
    if choice.get("type") in ("any", "tool"):
        raise invalid_request("tool_choice: a tool call is required, but no tool of the request is available here")
    return {}


def _tool_choice(choice: JsonObject, functions: list[JsonObject]) -> str | JsonObject:
    if choice["type"] != "tool":
        return _CHOICES[choice["type"]]
    name = upstream_name(choice.get("name") or "")
    if name not in (function["function"]["name"] for function in functions):
        raise invalid_request(f"tool_choice.name: no tool of that name is available: {choice.get('name')}")
    return {"type": "function", "function": {"name": name}}
