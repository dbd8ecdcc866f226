"""Answers that must be JSON: the document comes out, whatever stands around it, however it is cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.json_text import JsonTextFilter
from tests.support.scaling import assert_linear_cpu

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def told(*pieces: str) -> str:
    answer = JsonTextFilter()
    return "".join([answer.feed(piece) for piece in pieces]) + answer.close()


DOCUMENT = '{"a": [1, "}"], "b": {}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DOCUMENT, DOCUMENT),
        (f"\n {DOCUMENT} \n", DOCUMENT),
        (f"```json\n{DOCUMENT}\n```", DOCUMENT),
        (f"```\n{DOCUMENT}\n```\n\nDone!", DOCUMENT),
        (f"{DOCUMENT}\n\nHope this helps {{you}}.", DOCUMENT),
        (f"Here it is: {DOCUMENT}. Enjoy!", DOCUMENT),
        (f"The {{name}} is here:\n```json\n{DOCUMENT}\n```", DOCUMENT),
        (f"As [1] says: {DOCUMENT}, see also [2].", DOCUMENT),
        (f"First [[1], [2]], then {DOCUMENT}, at last [3].", DOCUMENT),
        ("[1, 2]", "[1, 2]"),
        ('"a string"', '"a string"'),
        ("I can't say.", "I can't say."),
        ("no {document} in [here", "no {document} in [here"),
        ('{"cut": "in the mid', '{"cut": "in the mid'),
        ("{'not': 'json'} at all", "{'not': 'json'} at all"),
        ("", ""),
        ("  ", ""),
        ("```", "```"),
        ("` ", "` "),
        (" \n``` \n", "```"),
    ],
)
def test_the_document_comes_out(text: str, expected: str) -> None:
    assert told(text) == told(*text) == expected


def test_a_document_goes_out_as_it_comes() -> None:
    answer = JsonTextFilter()
    assert [answer.feed(piece) for piece in ('```json\n{"a": ', '"b', 'c"', "}\n", "```")] == [
        '{"a": ',
        '"b',
        'c"',
        "}",
        "",
    ]
    assert answer.close() == ""


@given(
    st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    st.sampled_from(["", "```json\n", "Sure: "]),
    st.data(),
)
def test_any_document(value: dict[str, Any], before: str, data: st.DataObject) -> None:
    text = before + json.dumps(value, ensure_ascii=False) + "\n```\nDone."
    cut = data.draw(st.integers(0, len(text)))
    assert json.loads(told(text[:cut], text[cut:])) == value


def test_a_text_full_of_brackets_is_read_in_time() -> None:
    text = "x" + "[" * 200_000
    assert told(text) == text


def test_text_in_front_of_a_document_is_searched_once() -> None:
    assert_linear_cpu(lambda size: lambda: told(*["word "] * size), 1_000)


@pytest.mark.parametrize("fence", ["", "```json"])
def test_white_space_without_end_is_looked_at_once(fence: str) -> None:
    """It takes minutes otherwise."""
    assert told(fence, *[" \n \n"] * 50_000, DOCUMENT) == DOCUMENT
