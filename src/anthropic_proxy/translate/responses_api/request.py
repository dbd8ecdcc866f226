"""Convert a Chat Completions request to a Responses request: one table with a row for each field
that differs.

A field without a row is sent unchanged: both APIs share it (`temperature`, `service_tier`,
`stream`), or the upstream refuses it. The upstream stores nothing, so a request holds the entire
conversation, with encrypted reasoning of earlier turns.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.responses_api.items import to_input_items
from anthropic_proxy.wire.json_codec import JsonObject

# Tokens; OpenAI refuses less.
MIN_OUTPUT_TOKENS = 16

# Every Responses response includes usage.
_DROPPED_FIELDS = frozenset({"stream_options"})


def to_responses_request(body: JsonObject) -> JsonObject:
    """Return the Responses request for a Chat Completions request, with or without `stream`.

    The API accepts no output limit below 16 tokens, so a lower one becomes 16. In addition to Chat
    Completions' fields, the request may hold `reasoning` (`{"summary": "auto"}`) and `include` in
    this API's form. Raises ApiError (400) when the messages are empty.
    """
    request: JsonObject = {}
    for name, value in body.items():
        if name not in _DROPPED_FIELDS:
            path, convert = _FIELDS.get(name, (name, _unchanged))
            _set_path(request, path, convert(value))
    return {**request, "store": False}


def _set_path(request: JsonObject, path: str, value: Any) -> None:
    """Set a field, or a nested field for a path such as `text.format`."""
    name, _, nested_name = path.partition(".")
    if nested_name:
        request.setdefault(name, {})[nested_name] = value
    else:
        request[name] = value


def _unchanged(value: Any) -> Any:
    return value


def _convert_tools(tools: list[JsonObject]) -> list[JsonObject]:
    """Return the tools with an explicit `strict`: the API's default would be strict, and many
    schemas can't be.
    """
    return [{"type": "function", "strict": False, **tool["function"]} for tool in tools]


def _convert_tool_choice(choice: str | JsonObject) -> str | JsonObject:
    return (
        choice
        if isinstance(choice, str)
        else {"type": "function", "name": choice["function"]["name"]}
    )


def _convert_format(response_format: JsonObject) -> JsonObject:
    return {"type": response_format["type"], **response_format.get("json_schema", {})}


def _raise_to_minimum(tokens: int) -> int:
    return max(tokens, MIN_OUTPUT_TOKENS)


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "messages": ("input", to_input_items),
    "tools": ("tools", _convert_tools),
    "tool_choice": ("tool_choice", _convert_tool_choice),
    "max_tokens": ("max_output_tokens", _raise_to_minimum),
    "max_completion_tokens": ("max_output_tokens", _raise_to_minimum),
    "response_format": ("text.format", _convert_format),
    "verbosity": ("text.verbosity", _unchanged),
    "reasoning_effort": ("reasoning.effort", _unchanged),
    "reasoning": ("reasoning.summary", lambda reasoning: reasoning.get("summary")),
}
