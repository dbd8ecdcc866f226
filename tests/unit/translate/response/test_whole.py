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
from anthropic_proxy.wire.json_codec import dumps
from tests.support import grammar
from tests.support.cases import cases, texts
from tests.support.finish_words import WORDED_FAILURES, WORDED_STOP_REASONS
from tests.support.odd_bodies import OddBody, odd_bodies
from tests.support.odd_texts import odd_texts
from tests.support.response_specs import answer_spec
from tests.support.streams import wire

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


@pytest.mark.parametrize(("word", "status"), [*FAILURES.items(), *WORDED_FAILURES.items()])
def test_a_response_that_broke_off_is_an_error(word: str, status: int) -> None:
    for spelling in (word, word.upper()):
        assert _respond(spelling) == {"status": status}
        assert _respond(spelling, **_call("{}")) == {"status": status}


@pytest.mark.parametrize(
    ("word", "expected"), [*STOP_REASONS.items(), *WORDED_STOP_REASONS.items()]
)
def test_each_stop_reason(word: str, expected: str) -> None:
    if expected == "tool_use":
        expected = "end_turn"
    assert _respond(word)["stop_reason"] == expected


@pytest.mark.parametrize("finish_reason", ["", "whim", "OTHER"])
def test_an_end_that_proves_nothing(finish_reason: str) -> None:
    assert _respond(finish_reason)["stop_reason"] == "end_turn"
    assert _respond(finish_reason, **_call('{"a":1}'))["stop_reason"] == "tool_use"
    assert _respond(finish_reason, **_call('{"a":'))["status"] == 500


@pytest.mark.parametrize("finish_reason", ["", "whim", "OTHER"])
@pytest.mark.parametrize("content", [None, ""])
def test_an_empty_response_with_an_unproven_end_is_an_error(
    finish_reason: str, content: str | None
) -> None:
    assert _respond(finish_reason, message={"content": content}) == {"status": 500}
    assert _respond("stop", message={"content": content})["content"] == []


@pytest.mark.parametrize("finish_reason", [None, "null", "not_finished"])
def test_a_response_without_an_end_is_an_error(finish_reason: str | None) -> None:
    assert _respond(finish_reason) == {"status": 500}


def test_fields_of_openrouter() -> None:
    assert _respond("stop", native_finish_reason="MAX_TOKENS")["stop_reason"] == "max_tokens"
    assert _respond("error", error={"message": "a", "code": 429}) == {"status": 429}


@pytest.mark.parametrize("body", [*odd_bodies(), *odd_texts()])
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


_TEXT = wire([{"choices": [{"delta": {"content": "Hello"}}]}], done=False)
_FINISH: Json = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
_END = wire([{**_FINISH, "usage": {"prompt_tokens": 5, "completion_tokens": 2}}], done=False)
_DONE = b"data: [DONE]\n\n"


def _translate_events(body: bytes, api: str = "chat_completions") -> Json:
    """Return the message for a body of events, or the status and the message of its error."""
    translator = StreamTranslator(answer_spec())
    events = translator.start()
    try:
        events += translate_body(body, APIS[api], translator)
    except ApiError as error:
        return {"status": error.status, "message": error.message}
    grammar.check(events)
    return collect_message(events)


@pytest.mark.parametrize("case", texts("errors_in_responses"))
def test_an_error_in_a_body_of_events(case: Json) -> None:
    payload = dumps(case["payload"])
    error = b"data: %b\n\n" % payload
    for body in (
        error,
        error + _DONE,
        b"event: error\n" + error,
        # Without the format of an event.
        _TEXT + payload,
        _TEXT + payload + b"\n\n" + _DONE,
    ):
        assert _translate_events(body) == {"status": case["status"], "message": case["message"]}
    for body in (_TEXT + error + _DONE, _TEXT + b"event: error\n" + error + _DONE):
        translated = _translate_events(body)
        if case.get("refuses"):
            assert translated["stop_details"]["explanation"] == case["message"]
            translated = {"status": 400, "message": case["message"]}
        assert translated == {"status": case["status"], "message": case["message"]}


def test_an_error_event_in_the_form_of_its_api() -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    failed = {"type": "response.failed", "response": {"status": "failed", "error": error}}
    body = b"event: error\n" + wire([failed], done=False)
    assert _translate_events(body, "responses") == {"status": 429, "message": "slow down"}


@pytest.mark.parametrize(
    "rest",
    [
        _TEXT,
        wire([{"error": {"message": "died"}}], done=False),
        b'event: error\ndata: {"message":"died"}\n\n',
        b'data: {"choices":[{"del',
        b"data: no JSON\n\n",
        b'{"error":{"message":"died"}}\n\n',
        _DONE,
    ],
)
def test_what_follows_the_end_of_a_body_of_events_is_ignored(rest: bytes) -> None:
    message = _translate_events(_TEXT + _END)
    assert message["content"] == [{"type": "text", "text": "Hello"}]
    assert _translate_events(_TEXT + _END + rest) == message


@pytest.mark.parametrize("size", [20, 30, 40])
def test_an_incomplete_last_event_after_the_finish_reason_is_dropped(size: int) -> None:
    body = _TEXT + wire([_FINISH], done=False)
    assert _translate_events(body + _END[:size]) == _translate_events(body)


def test_a_text_in_place_of_events() -> None:
    busy = {"status": 429, "message": "Too many requests"}
    assert _translate_events(b"Too many requests\n") == busy
    assert _translate_events(_TEXT + b"Too many requests\n\n") == busy
