"""Choices of tools for servers that don't take them all."""

from typing import Any

import pytest

from anthropic_proxy.translate.request.tool_choice import TOOL_CHOICE_CONVERTERS

USER = {"role": "user", "content": "Hi"}


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}}}


def chosen(way: str, choice: Any, *names: str) -> tuple[Any, list[str], str]:
    """The choice, the names of the tools and the words to the model that are left of a request."""
    body = {
        "messages": [USER],
        "tools": [function(name) for name in names],
        "parallel_tool_calls": False,
    }
    changed = TOOL_CHOICE_CONVERTERS[way](
        body if choice is None else {**body, "tool_choice": choice}
    )
    words = [message["content"] for message in changed["messages"] if message["role"] == "system"]
    assert ("parallel_tool_calls" in changed) == ("tools" in changed)
    return (
        changed.get("tool_choice"),
        [tool["function"]["name"] for tool in changed.get("tools", ())],
        "".join(words),
    )


B = {"type": "function", "function": {"name": "b"}}
ANY = "Respond only with a call to one of the tools."
ONE = "Respond only with a call to the tool b."


@pytest.mark.parametrize(
    ("way", "choice", "expected"),
    [
        ("named", B, (B, ["a", "b"], "")),
        ("named", "required", ("required", ["a", "b"], "")),
        ("words", B, ("required", ["b"], "")),
        ("words", "required", ("required", ["a", "b"], "")),
        ("words", "none", ("none", ["a", "b"], "")),
        ("auto", B, ("auto", ["b"], ONE)),
        ("auto", "required", ("auto", ["a", "b"], ANY)),
        ("auto", "none", (None, [], "")),
        ("auto", "auto", ("auto", ["a", "b"], "")),
        ("auto", None, (None, ["a", "b"], "")),
    ],
)
def test_choices(way: str, choice: Any, expected: Any) -> None:
    assert chosen(way, choice, "a", "b") == expected


def test_the_only_tool_is_named() -> None:
    assert chosen("auto", "required", "b") == ("auto", ["b"], ONE)


@pytest.mark.parametrize("way", TOOL_CHOICE_CONVERTERS)
def test_without_tools(way: str) -> None:
    body = {"messages": [USER]}
    assert TOOL_CHOICE_CONVERTERS[way](body) == body
