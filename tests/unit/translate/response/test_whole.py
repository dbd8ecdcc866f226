"""Whole answers: every case."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.response.stop_reasons import FAILURES, STOP_REASONS
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import (
    build_empty_events,
    collect_message,
    to_message,
    translate_body,
)
from tests.support import grammar
from tests.support.cases import cases
from tests.support.odd_bodies import OddBody, odd_bodies
from tests.support.response_specs import answer_spec

Json = dict[str, Any]


@pytest.mark.parametrize("case", cases("responses"))
def test_case(case: Json) -> None:
    translator = StreamTranslator(answer_spec(case.get("request")))
    if "error" in case:
        with pytest.raises(ApiError) as caught:
            to_message(case["answer"], translator)
        assert {"status": caught.value.status, "message": caught.value.message} == case["error"]
    else:
        message = to_message(case["answer"], translator)
        assert message == {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-test",
            **case["message"],
        }


def test_no_output_at_all() -> None:
    """For `max_tokens: 0`."""
    events = build_empty_events(answer_spec())
    assert [event["type"] for event in events] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]
    assert events[2]["delta"]["stop_reason"] == "max_tokens"


def _respond(finish_reason: Any, **fields: Any) -> Json:
    """Return the message of a whole response with a text, or the status of its error."""
    choice = {"message": {"content": "Hello"}, "finish_reason": finish_reason, **fields}
    try:
        return to_message({"choices": [choice]}, StreamTranslator(answer_spec()))
    except ApiError as error:
        return {"status": error.status}


def _call(arguments: str) -> Json:
    call = {"id": "c", "function": {"name": "look", "arguments": arguments}}
    return {"message": {"content": None, "tool_calls": [call]}}


@pytest.mark.parametrize("word", FAILURES)
def test_a_response_that_broke_off_is_an_error(word: str) -> None:
    for spelling in (word, word.upper()):
        assert _respond(spelling) == {"status": FAILURES[word]}
        assert _respond(spelling, **_call("{}")) == {"status": FAILURES[word]}


@pytest.mark.parametrize("word", STOP_REASONS)
def test_each_stop_reason(word: str) -> None:
    expected = STOP_REASONS[word]
    if expected == "tool_use":
        expected = "end_turn"
    assert _respond(word)["stop_reason"] == expected


@pytest.mark.parametrize("finish_reason", ["", "whim", "OTHER"])
def test_an_end_that_proves_nothing(finish_reason: str) -> None:
    assert _respond(finish_reason)["stop_reason"] == "end_turn"
    assert _respond(finish_reason, **_call('{"a":1}'))["stop_reason"] == "tool_use"
    assert _respond(finish_reason, **_call('{"a":'))["status"] == 500


@pytest.mark.parametrize("finish_reason", [None, "null", "not_finished"])
def test_a_response_without_an_end_is_an_error(finish_reason: str | None) -> None:
    assert _respond(finish_reason) == {"status": 500}


def test_fields_of_openrouter() -> None:
    assert _respond("stop", native_finish_reason="MAX_TOKENS")["stop_reason"] == "max_tokens"
    assert _respond("error", error={"message": "a", "code": 429}) == {"status": 429}


@pytest.mark.parametrize("body", odd_bodies())
def test_a_body_of_any_format(body: OddBody) -> None:
    translator = StreamTranslator(answer_spec(body.request))
    events = translator.start()
    if body.error:
        with pytest.raises(ApiError) as caught:
            translate_body(body.raw, APIS[body.api], translator)
        assert body.error in caught.value.message
    else:
        events += translate_body(body.raw, APIS[body.api], translator)
        grammar.check(events)
        assert collect_message(events)["content"] == body.content
