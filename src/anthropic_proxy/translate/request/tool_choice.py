"""Tool choices for servers that don't accept every choice; see the profile field `tool_choices`.

What the server does not support is stated in the prompt: a client that forces a call can use
neither another response nor an error.
"""

from collections.abc import Callable, Mapping

from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_FIELD = "tool_choice"
# Without tools these fields have no effect, and upstreams refuse some of them.
_TOOL_FIELDS = frozenset({"tools", _FIELD, "parallel_tool_calls"})


def require_chosen_tool(body: JsonObject) -> JsonObject:
    """Replace the choice of a named tool by "required" with that tool alone."""
    choice = body.get(_FIELD)
    if not isinstance(choice, dict):
        return body
    chosen = [
        tool for tool in body["tools"] if tool["function"]["name"] == choice["function"]["name"]
    ]
    return {**body, "tools": chosen, _FIELD: "required"}


def to_prompted_choice(body: JsonObject) -> JsonObject:
    """Leave the choice to the model, and state a required call in the prompt.

    Drop the tools where the client wants no call.
    """
    body = require_chosen_tool(body)
    if body.get(_FIELD) == "none":
        return {name: value for name, value in body.items() if name not in _TOOL_FIELDS}
    if body.get(_FIELD) != "required":
        return body
    names = [tool["function"]["name"] for tool in body["tools"]]
    subject = f"the tool {names[0]}" if len(names) == 1 else "one of the tools"
    text = f"Answer with a call of {subject}, and with nothing else."
    return {**body, "messages": append_system_text(body["messages"], text), _FIELD: "auto"}


TOOL_CHOICE_CONVERTERS: Mapping[str, Callable[[JsonObject], JsonObject]] = {
    "named": lambda body: body,
    "words": require_chosen_tool,
    "auto": to_prompted_choice,
}
