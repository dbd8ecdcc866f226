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


_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
_TEXT = {"type": "text", "text": "a"}


def _tool(content: Any, call_id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [*parts]}


def _label(number: int = 1, call_id: str = "c1") -> str:
    return f"[attachment {number} of the tool result {call_id}]"


def _labelled(part: dict[str, Any], label: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": f"{label}:"}, part]


@pytest.mark.parametrize(
    ("messages", "changed"),
    [
        ([_tool("a")], [_tool("a")]),
        ([_tool([_TEXT, _TEXT])], [_tool("a\na")]),
        (
            [_tool([_TEXT, _IMAGE])],
            [_tool(f"a\n{_label()} follows below"), _user(*_labelled(_IMAGE, _label()))],
        ),
        (
            [_tool([_IMAGE]), _tool([_IMAGE, _IMAGE], "c2"), {"role": "user", "content": "b"}],
            [
                _tool(f"{_label()} follows below"),
                _tool(f"{_label(1, 'c2')} follows below\n{_label(2, 'c2')} follows below", "c2"),
                _user(
                    *_labelled(_IMAGE, _label()),
                    *_labelled(_IMAGE, _label(1, "c2")),
                    *_labelled(_IMAGE, _label(2, "c2")),
                    {"type": "text", "text": "b"},
                ),
            ],
        ),
        (
            [_tool([_IMAGE]), _user(_TEXT), _user(_TEXT)],
            [
                _tool(f"{_label()} follows below"),
                _user(*_labelled(_IMAGE, _label()), _TEXT),
                _user(_TEXT),
            ],
        ),
        (
            [_tool([_IMAGE]), {"role": "system", "content": "s"}],
            [
                _tool(f"{_label()} follows below"),
                _user(*_labelled(_IMAGE, _label())),
                {"role": "system", "content": "s"},
            ],
        ),
    ],
)
def test_parts_of_tool_results_in_a_user_message(messages: Any, changed: Any) -> None:
    change = RequestChange("move_tool_parts", "messages")
    assert change.apply({"messages": messages}) == {"messages": changed}
    assert change.apply({"messages": changed}) == {"messages": changed}


def test_the_phase_in_reasoning_is_dropped() -> None:
    change = RequestChange("drop_from_details", "phase")
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_details": [{"data": "E", "phase": "c"}]},
        {"role": "assistant", "content": "b", "reasoning_details": "odd"},
    ]
    changed = change.apply({"messages": messages})["messages"]
    assert changed[1]["reasoning_details"] == [{"data": "E"}]
    assert [changed[0], changed[2]] == [messages[0], messages[2]]


def test_variants_of_the_responses_form_add_up() -> None:
    body: dict[str, Any] = {"messages": []}
    for name in ("omit_strict", "omit_store", "omit_strict"):
        body = RequestChange(name, "messages").apply(body)
    assert body["responses_variants"] == ["omit_store", "omit_strict"]
