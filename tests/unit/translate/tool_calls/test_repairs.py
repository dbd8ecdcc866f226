"""Counts of repaired tool calls."""

import pytest

from anthropic_proxy.translate.tool_calls.arguments import ToolArguments
from anthropic_proxy.translate.tool_calls.assembler import ToolCallAssembler


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1}', None),
        ("", None),
        ("{}", None),
        ('{"a": 1}```', None),
        ('{"a": "b"', "arguments"),
        ('{"a": 1', "invalid_arguments"),  # it may be truncated
        ('"{\\"a\\": 1}"', "arguments"),
        ("nonsense", "invalid_arguments"),
        ('{"a": 0, "b": 1, \'a\': 2}', "invalid_arguments"),  # a repeated key
        ('{"a": nonsense}', "invalid_arguments"),
    ],
)
def test_arguments(text: str, kind: str | None) -> None:
    arguments = ToolArguments()
    if text:
        arguments.add(text)
    arguments.finish(truncated=False)
    assert arguments.repair == kind


def test_a_truncated_object_is_not_repaired() -> None:
    arguments = ToolArguments()
    arguments.add('{"a": 1')
    arguments.finish(truncated=True)
    assert arguments.repair is None


def test_calls() -> None:
    calls = ToolCallAssembler({"look": {}})
    calls.add_text_call("look", {"a": 1}, "toolu_1")
    for number, text in enumerate(('{"a"', "nonsense", '{"a": 1}')):
        call = calls.feed(
            {"index": number, "id": str(number), "function": {"name": "look", "arguments": text}},
            str,
        )
        call.arguments.finish(truncated=False)
    assert calls.repair_counts == {"invalid_arguments": 2, "call_in_text": 1}
