"""Changes of requests; the refusals that lead to them are in tests/cases."""

from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.changes import RequestChange, parse_thinking_mode


@pytest.mark.parametrize(
    ("wanted", "expected"), [("max", "high"), ("xhigh", "high"), ("minimal", "low"), ("low", "low")]
)
def test_the_nearest_level(wanted: str, expected: str) -> None:
    change = RequestChange("choose_nearest_effort", "reasoning_effort", ("low", "high"))
    assert change.apply({"reasoning_effort": wanted}) == {"reasoning_effort": expected}


def test_a_schema_without_a_system_prompt() -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": {}, "strict": False},
    }
    body = {"messages": [{"role": "user", "content": "a"}], "response_format": schema}
    changed = RequestChange("use_json_object_format", "response_format").apply(body)
    assert [message["role"] for message in changed["messages"]] == ["system", "user"]
    assert changed["response_format"] == {"type": "json_object"}


def test_parts_of_other_kinds_stay_parts() -> None:
    parts = [{"type": "text", "text": "a"}]
    thinking = {"type": "thinking", "thinking": []}
    messages = [
        {"role": "assistant", "content": parts},
        {"role": "assistant", "content": [thinking, *parts]},
        {"role": "user", "content": [thinking]},
    ]
    changed = RequestChange("drop_assistant_parts", "content", "thinking").apply(
        {"messages": messages}
    )
    assert changed["messages"] == [
        {"role": "assistant", "content": parts},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [thinking]},
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "unset"),
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
