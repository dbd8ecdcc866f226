"""Repairs that are certain, and texts that are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tool_calls.json_repair import parse_arguments, repair_json


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("\"{'a': 1}\"", {"a": 1}),
        ('{"a": ', None),
        ("[1]", None),
        ('"text"', None),
        ("5", None),
        ('{"a": NaN}', None),
        ('{"big": 123456789012345678901234567890}', {"big": 123456789012345678901234567890}),
    ],
)
def test_parse_arguments(raw: str, expected: Any) -> None:
    assert parse_arguments(raw) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': 'b'}", {"a": "b"}),
        ("{'a': 'say \"hi\"', 'b': 'it\\'s'}", {"a": 'say "hi"', "b": "it's"}),
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ('{"a": {"b": [1]', {"a": {"b": [1]}}),
        ('{"a": "b"', {"a": "b"}),
        ('{"a": [true', {"a": [True]}),
        ("{a: 1, b-c: 'x', $d: 2}", {"a": 1, "b-c": "x", "$d": 2}),
        ("{'a': True, 'b': False, 'c': None}", {"a": True, "b": False, "c": None}),
        ('{"a": "two\nlines\tand a tab"}', {"a": "two\nlines\tand a tab"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("```\n{'a': 1}", {"a": 1}),
        ('{"a": 1, // one\n "b": 2, # two\n /* three */ "c": 3}', {"a": 1, "b": 2, "c": 3}),
        (
            '{"u": "http://x/#y", \'v\': "/* no comment */"}',
            {"u": "http://x/#y", "v": "/* no comment */"},
        ),
        ('{"a": 1}', {"a": 1}),
    ],
)
def test_certain(text: str, value: dict[str, Any]) -> None:
    assert repair_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "[1, 2,]",
        "{'a': 'it's'}",
        '{"a": "say "hi""}',
        '{"a": }',
        '{"a": 1, "b"',
        '{"a": 1, "b":',
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        '{"a": word}',
        '{"a": NaN}',
        '{"a": "b}',
        '{"a": "b',
        '{"a": 1,',
        '{"a": 1',
        '{"a": 1 2}',
        '{"a": tr ue}',
        '{"a": 1 /* or */ 2}',
        '{"a": "b\\',
        '{"a": "C:\\dir"}',
        '{"a": [1}',
        '{"a": 1,, "b": 2}',
        '{"a": 1}{"b": 2}',
        '{"a": 1} and so on',
        '{"a": 1 // the end}',
        "{1: 2}",
        "{%}",
        # A model that writes spaces for ever: read in linear time, or this test takes minutes.
        "```json\n{" + " " * 50_000 + "x",
    ],
)
def test_uncertain(text: str) -> None:
    assert repair_json(text) is None


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers(), max_size=3),
    st.integers(0, 40),
)
def test_nothing_is_invented(document: dict[str, Any], size: int) -> None:
    """The beginning of a document is repaired to some of its members, or not at all."""
    text = json.dumps(document, ensure_ascii=False)
    repaired = repair_json(text[:size])
    members = list(document.items())
    for place, (key, value) in enumerate((repaired or {}).items()):
        assert key == members[place][0]
        assert str(members[place][1]).startswith(str(value))


@pytest.mark.parametrize(("space", "is_repaired"), [("", True), (" ", False)])
def test_at_most_20_000_tokens_are_read(space: str, *, is_repaired: bool) -> None:
    text = '{"a":[' + space + "1," * 9_997 + "]}"
    assert repair_json(text) == ({"a": [1] * 9_997} if is_repaired else None)


@pytest.mark.parametrize(
    ("text", "is_complete"),
    [("{'a': 1}", True), ("{'a': [1,],}", True), ("{'a': 1", False), ("{'a': [1}", False)],
)
def test_a_text_that_may_be_truncated_gets_no_closing_brackets(
    text: str, is_complete: bool
) -> None:
    assert (repair_json(text, may_be_truncated=True) is not None) == is_complete
