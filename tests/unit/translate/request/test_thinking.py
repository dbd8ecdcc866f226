"""Reasoning fields of each kind of upstream; more of them are in tests/cases/requests."""

from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.translate.request.thinking import disables_thinking, to_reasoning_fields

OFF = {"thinking": {"type": "disabled"}}
ON = {"thinking": {"type": "adaptive"}}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 5000}}
EFFORT = {"output_config": {"effort": "max"}}


@pytest.mark.parametrize(
    ("reasoning", "fields", "expected"),
    [
        ("openai", {}, {}),
        ("openai", OFF, {"reasoning_effort": "none"}),
        ("openai", BUDGET, {"reasoning_effort": "medium"}),
        ("openai", EFFORT, {"reasoning_effort": "max"}),
        ("openrouter", {}, {}),
        ("openrouter", OFF, {"reasoning": {"enabled": False}}),
        ("openrouter", ON, {"reasoning": {"enabled": True}}),
        ("openrouter", BUDGET | EFFORT, {"reasoning": {"max_tokens": 5000}}),
        ("openrouter", EFFORT, {"reasoning": {"effort": "max"}}),
        ("template", EFFORT, {}),
        ("template", ON | EFFORT, {"reasoning_effort": "high"}),
        (
            "template",
            OFF,
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}},
        ),
        ("effort", BUDGET, {"reasoning_effort": "medium"}),
        ("toggle", OFF, {"reasoning": {"enabled": False}}),
        ("toggle", BUDGET, {"reasoning_effort": "medium"}),
        ("thinking", {}, {}),
        ("thinking", OFF | EFFORT, {"thinking": {"type": "disabled"}}),
        ("thinking", BUDGET, {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("thinking", EFFORT, {"reasoning_effort": "max"}),
        ("enable_thinking", {}, {}),
        ("enable_thinking", OFF, {"enable_thinking": False}),
        ("enable_thinking", BUDGET, {"enable_thinking": True, "thinking_budget": 5000}),
        ("split", {}, {"reasoning_split": True}),
        ("split", ON, {"reasoning_split": True, "thinking": {"type": "adaptive"}}),
        ("split", OFF, {"reasoning_split": True, "thinking": {"type": "disabled"}}),
        ("responses", OFF, {"reasoning_effort": "none"}),
        (
            "responses",
            BUDGET,
            {
                "reasoning_effort": "medium",
                "reasoning": {"summary": "auto"},
                "include": ["reasoning.encrypted_content"],
            },
        ),
        ("none", BUDGET | EFFORT, {}),
    ],
)
def test_fields(reasoning: Any, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = {"messages": [], **fields}
    assert to_reasoning_fields(request, replace(GENERIC, reasoning=reasoning)) == expected
    assert disables_thinking(expected) == (fields.get("thinking") == OFF["thinking"])


@pytest.mark.parametrize(
    ("efforts", "expected"),
    [
        (["low", "high"], "high"),
        (["low", "unknown"], "low"),
        ([None], "max"),
    ],
)
def test_the_last_known_effort_counts(efforts: list[str | None], expected: str) -> None:
    messages = [{"role": "user", "output_config": {"effort": effort}} for effort in efforts]
    request = {"messages": messages, **EFFORT}
    profile = replace(GENERIC, reasoning="openai")
    assert to_reasoning_fields(request, profile) == {"reasoning_effort": expected}


@pytest.mark.parametrize("budget", [None, -1, "many"])
def test_a_budget_that_is_no_number_of_tokens_has_no_effect(budget: Any) -> None:
    request = {"messages": [], "thinking": {"type": "enabled", "budget_tokens": budget}}
    profile = replace(GENERIC, reasoning="openrouter")
    assert to_reasoning_fields(request, profile) == {"reasoning": {"enabled": True}}
