"""Where reasoning comes from, and how it finds its way back."""

from typing import Any

import pytest

from anthropic_proxy.translate.reasoning import reasoning_of, replayed, sign


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({}, ("", "")),
        ({"reasoning": None, "reasoning_content": ""}, ("", "")),
        ({"reasoning_content": "a"}, ("a", "reasoning_content")),
        ({"reasoning": "a", "reasoning_content": "a"}, ("a", "reasoning")),
        ({"reasoning": {"not": "text"}}, ("", "")),
        ({"reasoning_details": [{"text": "a"}, {"summary": "b"}, {"data": "encrypted"}, "junk"]}, ("ab", "reasoning")),
        ({"reasoning_details": "junk"}, ("", "")),
    ],
)
def test_reasoning_of(delta: dict[str, Any], expected: tuple[str, str]) -> None:
    assert reasoning_of(delta) == expected


def block(thinking: str, signature: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_round_trip(field: str) -> None:
    assert replayed([block("a", sign(field)), block("b", sign(field))]) == {field: "ab"}


@pytest.mark.parametrize(
    "signature", ["", None, "EqQBCgIYAhIM", "anthropic-proxy.1.messages", "anthropic-proxy.9.reasoning"]
)
def test_foreign_signatures_mean_nothing(signature: Any) -> None:
    assert replayed([block("a", signature)]) == {}


def test_a_block_without_text_gives_nothing_back() -> None:
    assert replayed([block("", sign("reasoning"))]) == {}
