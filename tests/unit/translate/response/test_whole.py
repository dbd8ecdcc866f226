"""Whole answers: every case."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import to_message
from tests.support.cases import cases
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
