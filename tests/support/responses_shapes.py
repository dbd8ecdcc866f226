"""Check Responses requests and events by the types of the `openai` package.

Also checks the rules that OpenAI's servers enforce beyond the types.
"""

from typing import Any

from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from pydantic import TypeAdapter

from tests.support.openai_shapes import adapter, exhaust, is_name

Json = dict[str, Any]

_WHOLE = adapter(ResponseCreateParamsNonStreaming)
_STREAMED = adapter(ResponseCreateParamsStreaming)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

_OF_A_MODEL = ("message", "function_call")


def check(body: Json) -> None:
    """Asserts that OpenAI's API would take `body`."""
    # The servers take reasoning without an id as well.
    named = [
        {"id": "rs", **item} if item["type"] == "reasoning" else item for item in body["input"]
    ]
    exhaust((_STREAMED if body.get("stream") else _WHOLE).validate_python({**body, "input": named}))
    assert body["store"] is False
    assert body.get("max_output_tokens", 16) >= 16
    assert all(
        is_name(tool["name"]) and isinstance(tool["strict"], bool) for tool in body.get("tools", ())
    )
    _check_order(body["input"])


def check_event(event: Json) -> None:
    """Asserts that the event is one of OpenAI's."""
    _EVENT.validate_python(event)


def _check_order(items: list[Json]) -> None:
    """Every call is answered, and reasoning comes right before something of the model's."""
    assert items
    calls = [item["call_id"] for item in items if item["type"] == "function_call"]
    results = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    assert sorted(calls) == sorted(results)
    for item, following in zip(items, [*items[1:], {}], strict=True):
        if item["type"] == "reasoning":
            assert item["encrypted_content"], "nothing is stored that could be named"
            is_the_models = (
                following.get("type") in _OF_A_MODEL
                and following.get("role", "assistant") == "assistant"
            )
            assert following.get("type") == "reasoning" or is_the_models, (
                "reasoning that nothing follows"
            )
