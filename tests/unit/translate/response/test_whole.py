"""Whole answers: every case."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.apis import APIS
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
