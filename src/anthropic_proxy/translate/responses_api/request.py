"""A Chat Completions request -> a Responses request: one table, a row for each field that has another name or form.

A field that no row names is sent as it is: both APIs call it the same (`temperature`, `service_tier`, `stream`), or the
upstream says what it thinks of it. Nothing is stored at the upstream, so that a request says all there is to the
conversation, and the reasoning of earlier turns comes from the client, encrypted.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.responses_api.items import to_items
from anthropic_proxy.wire.json_codec import JsonObject

# Tokens; OpenAI refuses less.
LEAST_ANSWER = 16

# Usage comes with every Responses answer.
_LEFT_OUT = frozenset({"stream_options"})


def to_responses(body: JsonObject) -> JsonObject:
    """The Responses request for a Chat Completions request, with or without `stream`.

    An answer of less than 16 tokens can't be asked for; 16 are asked for then. In addition to Chat Completions' own fields
    the request may hold `reasoning` (`{"summary": "auto"}`) and `include`, in the form that this API has for them. Raises
    ApiError (400) where nothing is left to answer.
    """
    request: JsonObject = {}
    for name, value in body.items():
        if name not in _LEFT_OUT:
            path, form = _FIELDS.get(name, (name, _same))
            _put(request, path, form(value))
    return {**request, "store": False}


def _put(request: JsonObject, path: str, value: Any) -> None:
    """`path`: a field, or a field and one within it."""
    name, _, within = path.partition(".")
    if within:
        request.setdefault(name, {})[within] = value
    else:
        request[name] = value


def _same(value: Any) -> Any:
    return value


def _tools(tools: list[JsonObject]) -> list[JsonObject]:
    """`strict` is always said, as here a schema would be strict without it, and many a schema can't be."""
    return [{"type": "function", "strict": False, **tool["function"]} for tool in tools]


def _tool_choice(choice: str | JsonObject) -> str | JsonObject:
    return (
        choice
        if isinstance(choice, str)
        else {"type": "function", "name": choice["function"]["name"]}
    )


def _format(wanted: JsonObject) -> JsonObject:
    return {"type": wanted["type"], **wanted.get("json_schema", {})}


def _at_least(tokens: int) -> int:
    return max(tokens, LEAST_ANSWER)


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "messages": ("input", to_items),
    "tools": ("tools", _tools),
    "tool_choice": ("tool_choice", _tool_choice),
    "max_tokens": ("max_output_tokens", _at_least),
    "max_completion_tokens": ("max_output_tokens", _at_least),
    "response_format": ("text.format", _format),
    "verbosity": ("text.verbosity", _same),
    "reasoning_effort": ("reasoning.effort", _same),
    "reasoning": ("reasoning.summary", lambda reasoning: reasoning.get("summary")),
}
