"""Complete Responses responses as completions."""

from typing import Any

import pytest

from anthropic_proxy.translate.responses_api.response import to_completion

_MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}


@pytest.mark.parametrize(
    ("response", "content", "finish_reason"),
    [
        ({"status": "completed", "output": [_MESSAGE]}, "Hello", "stop"),
        ({"status": "completed", "output": []}, None, "stop"),
        ({"status": "in_progress", "output": [_MESSAGE]}, None, None),
    ],
    ids=["text", "nothing", "not ended"],
)
def test_the_only_choice(response: Any, content: str | None, finish_reason: str | None) -> None:
    assert to_completion(response)["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": finish_reason,
        }
    ]


@pytest.mark.parametrize("response", [{}, {"status": None}, {"output": [_MESSAGE]}])
def test_json_that_is_no_response_has_no_choices(response: Any) -> None:
    assert to_completion(response) == {"choices": []}


@pytest.mark.parametrize("status", ["failed", "completed", None])
def test_an_error_counts_whatever_the_status(status: str | None) -> None:
    response = {"status": status, "error": {"message": "No."}, "output": [_MESSAGE]}
    assert to_completion(response)["error"]["message"] == "No."
