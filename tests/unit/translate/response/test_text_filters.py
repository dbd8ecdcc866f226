"""The filters of a response's text: each of them, and one behind the other."""

import dataclasses
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.text_filters import (
    JsonTextFilter,
    ResponseTextFilter,
    StopSequenceScanner,
)
from tests.support.response_specs import answer_spec
from tests.support.scaling import assert_linear_cpu


def filtered(
    text: str, prefill: str = "", *, structured: bool = False, stops: tuple[str, ...] = ()
) -> tuple[str, str | None]:
    spec = dataclasses.replace(
        answer_spec(), prefill=prefill, is_structured=structured, stop_sequences=list(stops)
    )
    filters = ResponseTextFilter(spec)
    return "".join(
        [filters.feed(character) for character in text]
    ) + filters.flush(), filters.matched_stop_sequence


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("Hello", {}, ("Hello", None)),
        ("Once upon a time", {"prefill": "Once upon"}, (" a time", None)),
        ("There was", {"prefill": "Once upon"}, ("There was", None)),
        ("Onc", {"prefill": "Once upon"}, ("Onc", None)),
        ('Sure: {"a": 1}', {"structured": True}, ('{"a": 1}', None)),
        ('Sure: {"a": "END"}', {"structured": True, "stops": ("END",)}, ('{"a": "', "END")),
        ("END of it", {"prefill": "END", "stops": ("END",)}, (" of it", None)),
        ("the EN", {"stops": ("END",)}, ("the EN", None)),
    ],
)
def test_filters(text: str, options: dict[str, Any], expected: tuple[str, str | None]) -> None:
    assert filtered(text, **options) == expected


# Responses that must be JSON: the document is left, whatever surrounds it, however it is cut.

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def reduced(*pieces: str) -> str:
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
    assert reduced(text) == reduced(*text) == expected


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
    assert json.loads(reduced(text[:cut], text[cut:])) == value


def test_a_text_full_of_brackets_is_read_in_time() -> None:
    text = "x" + "[" * 200_000
    assert reduced(text) == text


def test_text_in_front_of_a_document_is_searched_once() -> None:
    assert_linear_cpu(lambda size: lambda: reduced(*["word "] * size), 1_000)


@pytest.mark.parametrize("fence", ["", "```json"])
def test_white_space_without_end_is_looked_at_once(fence: str) -> None:
    """It takes minutes otherwise."""
    assert reduced(fence, *[" \n \n"] * 50_000, DOCUMENT) == DOCUMENT


# Stop sequences.


def scanned(pieces: list[str], sequences: list[str]) -> tuple[str, str | None]:
    scanner = StopSequenceScanner(sequences)
    text = "".join(scanner.feed(piece) for piece in pieces)
    return text + (scanner.flush() if scanner.match is None else ""), scanner.match


@pytest.mark.parametrize(
    ("text", "sequences", "visible", "matched"),
    [
        ("no match", ["x"], "no match", None),
        ("no sequences", [], "no sequences", None),
        ("a STOP b", ["STOP"], "a ", "STOP"),
        ("abc", ["abc", "b"], "a", "b"),
        ("xb", ["b", "xb"], "", "xb"),
        ("aab", ["ab"], "a", "ab"),
        ("ends in STO", ["STOP"], "ends in STO", None),
        ("a\n\n", ["\n\n", "\n"], "a", "\n"),
        ("naïve 🌍 end", ["🌍"], "naïve ", "🌍"),
    ],
)
def test_scanner(text: str, sequences: list[str], visible: str, matched: str | None) -> None:
    assert scanned([text], sequences) == (visible, matched)
    assert scanned(list(text), sequences) == (visible, matched)


@given(
    st.text("ab\n", max_size=20),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 20), max_size=6),
)
def test_the_cuts_do_not_matter(text: str, sequences: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    assert scanned(pieces, sequences) == scanned([text], sequences)
    visible, matched = scanned([text], sequences)
    assert (matched is None) == all(sequence not in text for sequence in sequences)
    assert text.startswith(visible + (matched or ""))


def test_only_what_could_be_a_beginning_is_held_back() -> None:
    scanner = StopSequenceScanner(["\n\nHuman:"])
    assert scanner.feed("Hello") == "Hello"
    assert scanner.feed(" there\n") == " there"
    assert scanner.feed("\nH") == ""
    assert scanner.feed("ere") == "\n\nHere"
