"""The strict upstream's rules can fail, each of them; these tests need no Claude Code."""

import json
from typing import Any

import pytest

from tests.claude_code.strict_rules import problem_of

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": ""}
GOOD: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": [SYSTEM, USER, ASSISTANT, RESULT],
    "tools": [TOOL],
}


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {}, **parameters},
        },
    }


def called(name: str, arguments: str) -> list[dict[str, Any]]:
    function = {"name": name, "arguments": arguments}
    return [USER, {**ASSISTANT, "tool_calls": [{**CALL, "function": function}]}, RESULT]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"thinking": {"type": "adaptive"}}, "thinking"),
        ({"messages": [{**USER, "reasoning": "x"}]}, "reasoning"),
        ({"messages": [USER, SYSTEM]}, "must be at the beginning"),
        ({"messages": [USER, USER]}, "must alternate"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "ends with the assistant"),
        ({"messages": [{"role": "assistant", "content": "x"}, USER]}, "begins with assistant"),
        ({"messages": [USER, ASSISTANT]}, "a call without a result"),
        ({"messages": [USER, ASSISTANT, RESULT, ASSISTANT, RESULT]}, "Duplicate tool call id"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty"),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
                    USER,
                ]
            },
            "as a string",
        ),
        ({"messages": [{"role": "user", "content": "x" * 10_485_761}]}, "string too long"),
        ({"messages": called("look", "[]")}, "are no object"),
        ({"messages": called("look", '{"a')}, "are no JSON"),
        ({"messages": called("x" * 65, "{}")}, "Invalid function name"),
        ({"messages": image("data:image/tiff;base64,AAAA")}, "Invalid image data URL"),
        ({"messages": image("data:image/png;base64,A?")}, "not base64"),
        ({"messages": image("data:image/png;base64,AAAA")}, "no png"),
        ({"tools": []}, "empty list of tools"),
        ({"tools": [tool("x" * 65)]}, "x" * 65),
        ({"tools": [TOOL, TOOL]}, "two tools of one name"),
        ({"tools": [tool(f"tool_{number}") for number in range(129)]}, "129 tools"),
        ({"tools": [tool("DeferredToolPlaceholder")]}, "never be called"),
        ({"tools": [tool("look", oneOf=[{}])]}, "oneOf"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "which is no tool"),
        ({"max_tokens": 0}, "at least 1 token"),
        ({"max_completion_tokens": 5}, "one limit"),
        ({"user": "x" * 65}, "64 at most"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], words: str) -> None:
    assert words in problem_of(GOOD | changed, ())


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"messages": [{**USER, "reasoning": "x"}]},
    ],
    ids=json.dumps,
)
def test_what_is_taken(changed: dict[str, Any]) -> None:
    assert problem_of(GOOD | changed, ("reasoning",)) == ""
