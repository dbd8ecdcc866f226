"""Whole answers: every case, and agreement with the stream translation."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate import collect
from anthropic_proxy.translate.response import to_message
from anthropic_proxy.translate.stream import StreamTranslator
from tests.cases import cases
from tests.translate.answer_specs import answer_spec

Json = dict[str, Any]


@pytest.mark.parametrize("case", cases("responses"))
def test_case(case: Json) -> None:
    spec = answer_spec(case.get("request"))
    if "error" in case:
        with pytest.raises(ApiError) as caught:
            to_message(case["answer"], spec)
        assert {"status": caught.value.status, "message": caught.value.message} == case["error"]
    else:
        message = to_message(case["answer"], spec)
        assert message == {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", **case["message"]}


@pytest.mark.parametrize("case", [case for case in cases("responses") if "error" not in case.values[0]])
def test_the_stream_says_the_same(case: Json) -> None:
    choice = case["answer"]["choices"][0]
    delta = dict(choice.get("message") or {})
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    translator = StreamTranslator(answer_spec(case.get("request")))
    events = translator.start()
    events += translator.feed({"choices": [{"index": 0, "delta": delta, "finish_reason": choice["finish_reason"]}]})
    if "usage" in case["answer"]:
        events += translator.feed({"choices": [], "usage": case["answer"]["usage"]})
    events += translator.close(done=True)
    streamed, whole = collect.to_message(events), to_message(case["answer"], answer_spec(case.get("request")))
    if "usage" not in case["answer"]:
        streamed.pop("usage"), whole.pop("usage")
    assert streamed == whole
