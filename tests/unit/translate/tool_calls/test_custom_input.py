"""The input of a custom tool as the arguments of an offered tool."""

import json
from typing import Any

import pytest

from anthropic_proxy.translate.tool_calls.custom_input import to_arguments
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}


def _schema(required: Any = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


@pytest.mark.parametrize(
    ("schema", "text", "arguments"),
    [
        (_schema(["command"], command=_TEXT), "ls", {"command": "ls"}),
        (_schema(command=_TEXT), 'say "hi"\n', {"command": 'say "hi"\n'}),
        (_schema(command=_TEXT), "", {"command": ""}),
        (_schema(command=_TEXT), '{"other":1}', {"command": '{"other":1}'}),
        (_schema(command=_TEXT), "[1]", {"command": "[1]"}),
        (_schema(command=_TEXT), "a\ud800", {"command": "a\ufffd"}),
        (_schema(command=_TEXT, timeout=_NUMBER), "ls", {"command": "ls"}),
        (_schema(command={"type": ["string", "null"]}), "ls", {"command": "ls"}),
        (_schema(command={"anyOf": [_TEXT, {"type": "null"}]}), "ls", {"command": "ls"}),
        (_schema(path=_TEXT, text=_TEXT), '{"path":"a"}', {"path": "a"}),
        (_schema(path=_TEXT, text=_TEXT), "a", {"INVALID_JSON": "a"}),
        (_schema(["timeout"], command=_TEXT, timeout=_NUMBER), "ls", {"INVALID_JSON": "ls"}),
        (_schema("all", command=_TEXT), "ls", {"command": "ls"}),
        (_schema(timeout=_NUMBER), "ls", {"INVALID_JSON": "ls"}),
        ({}, "ls", {"INVALID_JSON": "ls"}),
        ({"properties": None}, "ls", {"INVALID_JSON": "ls"}),
    ],
)
def test_arguments(schema: dict[str, Any], text: str, arguments: Any) -> None:
    tools = OfferedTools({"bash": schema})
    assert json.loads(to_arguments(text, "bash", tools, truncated=False)) == arguments


def test_unknown_tool() -> None:
    tools = OfferedTools({"bash": _schema(command=_TEXT)})
    assert to_arguments("ls", "patch", tools, truncated=False) == '{"INVALID_JSON":"ls"}'


def test_truncated_input_stays_open() -> None:
    tools = OfferedTools({"bash": _schema(command=_TEXT)})
    assert to_arguments('a "b', "bash", tools, truncated=True) == '{"command":"a \\"b'
