"""What of a request shapes the response to it."""

from typing import Any

import pytest

from anthropic_proxy.translate.response.spec import (
    ReasoningDisplay,
    build_diagnostics,
    build_fallback_credit,
    get_reasoning_display,
    get_tool_schemas,
)


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        ({}, {}),
        ({"diagnostics": None}, {}),
        ({"diagnostics": {}}, {"diagnostics": None}),
        ({"diagnostics": {"previous_message_id": None}}, {"diagnostics": None}),
        (
            {"diagnostics": {"previous_message_id": "msg_1"}},
            {"diagnostics": {"cache_miss_reason": {"type": "unavailable"}}},
        ),
    ],
)
def test_diagnostics(request_fields: Any, fields: Any) -> None:
    assert build_diagnostics(request_fields) == fields


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        ({}, {}),
        ({"fallback_credit_token": None}, {}),
        (
            {"fallback_credit_token": "t"},
            {"fallback_credit": {"status": {"type": "not_applied", "reason": "not_enabled"}}},
        ),
    ],
)
def test_fallback_credit(request_fields: Any, fields: Any) -> None:
    assert build_fallback_credit(request_fields) == fields


@pytest.mark.parametrize(
    ("thinking", "display"),
    [
        (None, ReasoningDisplay.HIDDEN),
        ({"type": "disabled"}, ReasoningDisplay.HIDDEN),
        ({"type": "enabled", "budget_tokens": 1024}, ReasoningDisplay.FULL),
        ({"type": "adaptive", "display": "summarized"}, ReasoningDisplay.FULL),
        ({"type": "adaptive", "display": "omitted"}, ReasoningDisplay.OMITTED),
    ],
)
def test_reasoning_display(thinking: Any, display: ReasoningDisplay) -> None:
    assert get_reasoning_display({"model": "m", "thinking": thinking}) is display


@pytest.mark.parametrize(
    ("body", "schemas"),
    [
        ({}, {}),
        ({"tools": None}, {}),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "a", "parameters": {"type": "object"}},
                    },
                    {"type": "function", "function": {"name": "b"}},
                    {"type": "custom", "custom": {"name": "c"}},
                ]
            },
            {"a": {"type": "object"}, "b": {}},
        ),
    ],
)
def test_tool_schemas(body: Any, schemas: Any) -> None:
    assert get_tool_schemas(body) == schemas
