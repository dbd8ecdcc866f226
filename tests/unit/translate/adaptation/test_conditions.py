"""What a request is like."""

from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.conditions import parse_thinking_mode


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "unsaid"),
        ({"reasoning_effort": "low"}, "on"),
        ({"reasoning_effort": "none"}, "off"),
        ({"reasoning": {"enabled": True}}, "on"),
        ({"reasoning": {"enabled": False}}, "off"),
        ({"reasoning": {"max_tokens": 2000, "exclude": False}}, "on"),
        ({"reasoning": {"effort": "none"}}, "off"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "on"),
        ({"thinking": {"type": "disabled"}}, "off"),
        ({"enable_thinking": False}, "off"),
        ({"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}, "off"),
        ({"chat_template_kwargs": {"thinking": True}}, "on"),
    ],
    ids=str,
)
def test_thinking(body: dict[str, Any], said: str) -> None:
    assert parse_thinking_mode(body) == said
