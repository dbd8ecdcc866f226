"""The content of choices. Whole responses are in tests/support/odd_bodies.py."""

from typing import Any

import pytest

from anthropic_proxy.translate.response.choices import CALLS, REASONING, TEXT, ChoiceReader

Json = dict[str, Any]

HELLO: Json = {"content": "Hello"}
THOUGHT: Json = {"reasoning_content": "Hm"}
CALL: Json = {"tool_calls": [{"index": 0, "id": "a"}]}


@pytest.mark.parametrize(
    ("choice", "received", "contents"),
    [
        ({"delta": HELLO}, set(), [HELLO]),
        ({"delta": HELLO}, {TEXT}, [HELLO]),
        ({"delta": HELLO, "surprise": 1}, {TEXT}, [HELLO]),
        ({"delta": {}, "message": HELLO}, set(), [{}, HELLO]),
        ({"message": HELLO}, {TEXT}, [{}]),
        ({"message": HELLO | CALL}, {TEXT}, [{}, CALL]),
        ({"message": HELLO | CALL}, {CALLS}, [{}, HELLO]),
        ({"message": HELLO | THOUGHT}, {REASONING}, [{}, HELLO]),
        ({"delta": HELLO, "message": HELLO | CALL}, set(), [HELLO, CALL]),
        ({"delta": HELLO, "text": "Hello"}, set(), [HELLO]),
        ({"delta": {"role": "assistant"}, "text": "Hello"}, set(), [{"role": "assistant"}, HELLO]),
        ({"message": CALL, "text": "Hello"}, set(), [{}, CALL, HELLO]),
        ({"delta": "Hello"}, set(), [HELLO]),
        ({"delta": 1, "message": [1]}, set(), [{}]),
        ({}, set(), [{}]),
    ],
)
def test_places(choice: Json, received: set[str], contents: list[Json]) -> None:
    assert ChoiceReader().read(choice, received) == contents


def test_messages_may_follow_one_another() -> None:
    reader = ChoiceReader()
    assert reader.read({"message": HELLO}, set()) == [{}, HELLO]
    assert reader.read({"message": HELLO}, {TEXT}) == [{}, HELLO]


@pytest.mark.parametrize("content", [HELLO, THOUGHT])
def test_alternatives(content: Json) -> None:
    reader = ChoiceReader()
    assert reader.read({"index": 1, "delta": content}, {TEXT, REASONING}) == []
    # The choice is an alternative, so its calls are too.
    assert reader.read({"index": 1, "delta": CALL}, {TEXT, REASONING}) == []
    assert reader.read({"index": 0, "delta": content}, {TEXT, REASONING}) == [content]
    assert reader.read({"index": 2, "delta": CALL}, {TEXT}) != []


def test_a_choice_that_is_held_may_become_an_alternative_later() -> None:
    reader = ChoiceReader()
    received: set[str] = set()
    assert reader.read({"index": 1, "delta": HELLO}, received) == []
    assert reader.read({"index": 2, "delta": THOUGHT}, received) == []
    for content, kind in ((HELLO, TEXT), (HELLO, TEXT), (THOUGHT, REASONING)):
        assert reader.read({"index": 0, "delta": content}, received) == [content]
        received.add(kind)
    assert reader.release() == []


def test_calls_of_choices_have_different_indices() -> None:
    reader = ChoiceReader()
    numbers = set()
    for index in range(3):
        delta = {"tool_calls": [{"index": 0}, {"index": 1}, {"id": "a"}, 5]}
        (numbered,) = reader.read({"index": index, "delta": delta}, {CALLS})
        calls = numbered["tool_calls"]
        assert calls[2:] == [{"id": "a"}, 5]
        numbers |= {call["index"] for call in calls[:2]}
    assert len(numbers) == 6
