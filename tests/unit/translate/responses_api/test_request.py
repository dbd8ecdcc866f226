"""Responses requests: every case by its whole body, and what holds for any conversation."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.adaptation.changes import RESPONSES_VARIANTS
from anthropic_proxy.translate.apis import APIS
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


_SYSTEM = {"role": "system", "content": "Be brief."}
_SYSTEM_PARTS = {"role": "system", "content": [{"type": "text", "text": text} for text in "ab"]}
_USER = {"role": "user", "content": "Hi"}


def _message(role: str, content: str) -> Json:
    return {"type": "message", "role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "instructions", "items"),
    [
        ([_SYSTEM, _USER], "Be brief.", [_message("user", "Hi")]),
        ([_SYSTEM, _SYSTEM_PARTS, _USER], "Be brief.\n\na\n\nb", [_message("user", "Hi")]),
        (
            [_SYSTEM, _USER, _SYSTEM],
            "Be brief.",
            [_message("user", "Hi"), _message("developer", "Be brief.")],
        ),
        ([_USER], "You are a helpful assistant.", [_message("user", "Hi")]),
    ],
)
def test_system_messages_as_instructions(
    messages: list[Json], instructions: str, items: list[Json]
) -> None:
    body = {"model": "m", "messages": messages, RESPONSES_VARIANTS: ["use_instructions"]}
    request = to_responses_request(body)
    assert request == {
        "model": "m",
        "input": items,
        "instructions": instructions,
        "store": False,
    }
    responses_shapes.check(request)


def test_parts_of_the_form_that_a_server_refuses() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}
    function = {"name": "look", "parameters": {}, "strict": True}
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": [image]},
            {"role": "assistant", "content": "a"},
            {"role": "tool", "tool_call_id": "c", "content": [image]},
        ],
        "tools": [{"type": "function", "function": function}],
        RESPONSES_VARIANTS: ["omit_detail", "omit_store", "omit_strict"],
    }
    request = to_responses_request(body)
    assert request.keys() == {"model", "input", "tools"}
    assert request["tools"] == [{"type": "function", "name": "look", "parameters": {}}]
    part = {"type": "input_image", "image_url": "https://a.example/a.png"}
    assert request["input"][0]["content"] == request["input"][2]["output"] == [part]
    assert function["strict"] is True


def test_chat_completions_have_no_variants() -> None:
    body = {"model": "m", RESPONSES_VARIANTS: ["omit_store"]}
    assert APIS["chat_completions"].to_body(body) == {"model": "m"}


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
