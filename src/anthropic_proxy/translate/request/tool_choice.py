"""Tool choices for servers that do not support all of them (profile field `tool_choices`).

If the server does not support a choice, the system prompt states it: a client that forces a call
cannot use another response, nor an error.
"""

from collections.abc import Callable, Mapping

from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_FIELD = "tool_choice"
# Fields that have no effect without tools; some upstreams refuse them then.
_TOOL_FIELDS = frozenset({"tools", _FIELD, "parallel_tool_calls"})


def require_chosen_tool(body: JsonObject) -> JsonObject:
    """Replace the choice of a named tool by "required", and offer only this tool."""
    choice = body.get(_FIELD)
    if not isinstance(choice, dict):
        return body
    chosen = [
        tool for tool in body["tools"] if tool["function"]["name"] == choice["function"]["name"]
    ]
    return {**body, "tools": chosen, _FIELD: "required"}


def to_prompted_choice(body: JsonObject) -> JsonObject:
    """Replace a required call by a text in the system prompt.

    Drops the tools if the tool choice is "none".
    """
    body = require_chosen_tool(body)
    if body.get(_FIELD) == "none":
        return {name: value for name, value in body.items() if name not in _TOOL_FIELDS}
    if body.get(_FIELD) != "required":
        return body
    names = [tool["function"]["name"] for tool in body["tools"]]
    subject = f"the tool {names[0]}" if len(names) == 1 else "one of the tools"
    text = f"Respond only with a call to {subject}."
    return {**body, "messages": append_system_text(body["messages"], text), _FIELD: "auto"}


TOOL_CHOICE_CONVERTERS: Mapping[str, Callable[[JsonObject], JsonObject]] = {
    "named": lambda body: body,
    "words": require_chosen_tool,
    "auto": to_prompted_choice,
}
