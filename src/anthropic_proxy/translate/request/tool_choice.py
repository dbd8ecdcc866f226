"""The choice of a tool, for servers that don't take every choice; see the fact `tool_choices`.

What can't be demanded of the server is asked of the model: a client that forces a call has no use for anything else, but
nor has it for a refusal.
"""

from collections.abc import Callable, Mapping

from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_FIELD = "tool_choice"
# None of them says anything without tools, and some are refused.
_TOOL_FIELDS = frozenset({"tools", _FIELD, "parallel_tool_calls"})


def require_chosen_tool(body: JsonObject) -> JsonObject:
    """A Chat Completions request that has to be answered by a given tool's call: "required", with that tool alone."""
    choice = body.get(_FIELD)
    if not isinstance(choice, dict):
        return body
    chosen = [
        tool for tool in body["tools"] if tool["function"]["name"] == choice["function"]["name"]
    ]
    return {**body, "tools": chosen, _FIELD: "required"}


def to_prompted_choice(body: JsonObject) -> JsonObject:
    """A request that leaves the choice to the model, which is told of a call that is required. Without a call there are
    no tools.
    """
    body = require_chosen_tool(body)
    if body.get(_FIELD) == "none":
        return {name: value for name, value in body.items() if name not in _TOOL_FIELDS}
    if body.get(_FIELD) != "required":
        return body
    names = [tool["function"]["name"] for tool in body["tools"]]
    text = f"Answer with a call of {'one of the tools' if names[1:] else f'the tool {names[0]}'}, and with nothing else."
    return {**body, "messages": append_system_text(body["messages"], text), _FIELD: "auto"}


TOOL_CHOICE_CONVERTERS: Mapping[str, Callable[[JsonObject], JsonObject]] = {
    "named": lambda body: body,
    "words": require_chosen_tool,
    "auto": to_prompted_choice,
}
