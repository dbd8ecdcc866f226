"""A Chat Completions request -> a Responses request: one table, a row for each field that has another name or form.

A field that no row names is sent as it is: both APIs call it the same (`temperature`, `service_tier`, `stream`), or the
upstream says what it thinks of it. Nothing is stored at the upstream, so that a request says all there is to the
conversation, and the reasoning of earlier turns comes from the client, encrypted.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.responses_api.items import to_input_items
from anthropic_proxy.wire.json_codec import JsonObject

# Tokens; OpenAI refuses less.
MIN_OUTPUT_TOKENS = 16

# Usage comes with every Responses answer.
_DROPPED_FIELDS = frozenset({"stream_options"})


def to_responses_request(body: JsonObject) -> JsonObject:
    """The Responses request for a Chat Completions request, with or without `stream`.

    An answer of less than 16 tokens can't be asked for; 16 are asked for then. In addition to Chat Completions' own fields
    the request may hold `reasoning` (`{"summary": "auto"}`) and `include`, in the form that this API has for them. Raises
    ApiError (400) where nothing is left to answer.
    """
    request: JsonObject = {}
    for name, value in body.items():
        if name not in _DROPPED_FIELDS:
            path, convert = _FIELDS.get(name, (name, _unchanged))
            _set_path(request, path, convert(value))
    return {**request, "store": False}


def _set_path(request: JsonObject, path: str, value: Any) -> None:
    """`path`: a field, or a field and one within it."""
    name, _, nested_name = path.partition(".")
    if nested_name:
        request.setdefault(name, {})[nested_name] = value
    else:
        request[name] = value


def _unchanged(value: Any) -> Any:
    return value


def _convert_tools(tools: list[JsonObject]) -> list[JsonObject]:
    """`strict` is always said, as here a schema would be strict without it, and many a schema can't be."""
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
