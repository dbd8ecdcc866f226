"""Responses requests: every case by its whole body, and what holds for any conversation."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.wire.json_codec import dumps
from tests.support import responses_shapes
from tests.support.cases import cases
from tests.support.chat_bodies import RESPONSES_PROFILES, Json, chat_body
from tests.support.strategies import REQUEST


def responses_body(case: Json) -> Json:
    return to_responses_request(
        case["chat"] if "chat" in case else chat_body(case["request"], case["dialect"])
    )


@pytest.mark.parametrize("case", cases("responses_api/requests"))
def test_case(case: Json) -> None:
    if "error" in case:
        with pytest.raises(ApiError) as caught:
            responses_body(case)
        assert {"status": caught.value.status, "message": caught.value.message} == case["error"]
        return
    body = responses_body(case)
    assert body == case["responses"]
    responses_shapes.check(body)


# Where there is something to read in messages and items, their parts and calls.
_READ = (
    "text",
    "content",
    "output",
    "arguments",
    "function",
    "tool_calls",
    "file",
    "file_data",
    "image_url",
    "url",
)


def texts_of(value: Any) -> list[str]:
    """What a model reads: texts, arguments, files and images, in their order."""
    if isinstance(value, dict):
        value = [value[name] for name in _READ if name in value]
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("dialect", sorted(RESPONSES_PROFILES))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    request=REQUEST,
    options=st.fixed_dictionaries({}, optional={"thinking": st.just({"type": "adaptive"})}),
)
def test_any_request_is_taken_and_loses_nothing(dialect: str, request: Json, options: Json) -> None:
    try:
        chat = chat_body({**request, **options}, dialect)
        before = dumps(chat)
        body = to_responses_request(chat)
    except ApiError:
        return
    responses_shapes.check(body)
    assert dumps(chat) == before, "the request is not touched"
    assert dumps(to_responses_request(chat)) == dumps(body), "the same bytes each time"
    assert "".join(texts_of(body["input"])) == "".join(texts_of(chat["messages"])), (
        "nothing is lost, nothing moves"
    )
    calls = [call for message in chat["messages"] for call in message.get("tool_calls", ())]
    made = [item for item in body["input"] if item["type"] == "function_call"]
    assert [(call["id"], call["function"]["name"]) for call in calls] == [
        (item["call_id"], item["name"]) for item in made
    ]
    results = [message["tool_call_id"] for message in chat["messages"] if message["role"] == "tool"]
    assert results == [
        item["call_id"] for item in body["input"] if item["type"] == "function_call_output"
    ]
