"""The incremental scanner against the standard library's parser, and the one of the SDK."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from tests.support.splits import random_pieces
from tests.support.strategies import values

documents = st.builds(
    lambda value, *, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    values,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)


def scan(pieces: list[str]) -> JsonScanner:
    scanner = JsonScanner()
    for piece in pieces:
        if scanner.is_valid:
            scanner.feed(piece)
    return scanner


def is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
        from_json(text)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(documents, st.integers(0, 99))
def test_documents_are_whole_however_they_are_cut(document: str, seed: int) -> None:
    scanner = scan(random_pieces(document, seed))
    assert scanner.is_valid
    assert scanner.is_complete
    assert scanner.length == len(document)


@given(documents, st.data())
def test_a_beginning_can_be_closed(document: str, data: st.DataObject) -> None:
    """The safe part is part of the document: no key, number or literal is invented."""
    beginning = document[: data.draw(st.integers(1, len(document)))]
    scanner = scan(random_pieces(beginning, len(document)))
    assert scanner.is_valid
    if scanner.closing_text:
        closed = json.loads(beginning[: scanner.safe_length] + scanner.closing_text)
        assert is_part(closed, json.loads(document))


def is_part(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return all(is_part(one, other) for one, other in zip(part, whole[: len(part)], strict=True))
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    return bool(part == whole)


@given(documents, st.data())
def test_invalid_json_is_found(document: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(document)))
    strange = data.draw(
        st.text(st.sampled_from("{}[]:,'\"\\ue0-+.1tNaIn/#\n\x01 "), min_size=1, max_size=3)
    )
    mutated = document[:at] + strange + document[at + data.draw(st.integers(0, 2)) :]
    scanner = scan(random_pieces(mutated, at))
    assert (scanner.is_valid and scanner.is_complete) == is_json(mutated)
    # The valid characters are the beginning of a document, and one more is not.
    again = scan([mutated[: scanner.length]])
    assert again.is_valid
    assert scanner.is_valid or not scan([mutated[: scanner.length + 1]]).is_valid


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("{'a': 1}", 1),
        ('{"a": NaN}', 6),
        ("Infinity", 0),
        ('{"a": nul}', 9),
        ('{"a": 1, }', 9),
        ('{"a": 01}', 7),
        ('{"a": 1.}', 8),
        ('{"a": .5}', 6),
        ("[+1]", 1),
        ("[-]", 2),
        ("[1e]", 3),
        ("[1e+]", 4),
        ("[1.5.5]", 4),
        ("[1e5.5]", 4),
        ("[1e5e5]", 4),
        ("[1-1]", 2),
        ('{"a": "line\nbreak"}', 11),
        ('{"a": "\\x"}', 8),
        ('{"a": "\\u12g4"}', 11),
        ('{"a": "\\ud83dx"}', 13),
        ("{} // comment", 3),
        ("{}}", 2),
        ("{},", 2),
        ("{} ,{}", 3),
        ("[1 2]", 3),
        ('{"a" 1}', 5),
        ("[" * 101, 100),
    ],
)
def test_the_first_invalid_character(text: str, length: int) -> None:
    scanner = scan([text])
    assert (scanner.is_valid, scanner.length) == (False, length)


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "7", "10", "-19", "0.0", "1.50", "0e0", "1e5", "1E5", "1e+5", "1E-05", "10.25e10"],
)
def test_numbers(number: str) -> None:
    assert json.loads(number) is not None
    for text in (number, f"[{number}]", f"[{number} , {number}]"):
        scanner = scan(list(text))
        assert (scanner.is_valid, scanner.is_complete, scanner.length) == (True, True, len(text))


@pytest.mark.parametrize(
    ("text", "safe", "closing"),
    [
        ("{", "{", "}"),
        ('{"a', "{", "}"),
        ('{"a": ', "{", "}"),
        ('{"a": "', "{", "}"),
        ('{"a": "x', '{"a": "x', '"}'),
        ('{"a": "x\\', '{"a": "x', '"}'),
        ('{"a": "x\\u00e', '{"a": "x', '"}'),
        ('{"a": "x\\ud83d', '{"a": "x', '"}'),
        ('{"a": "x\\ud83d\\ude00', '{"a": "x\\ud83d\\ude00', '"}'),
        ('{"a": "x\\ud83d"', '{"a": "x', '"}'),
        ('{"a": "x\\ud83d\\n', '{"a": "x', '"}'),
        ('{"a": "x\\ude00', '{"a": "x', '"}'),
        ('{"a": "x\ud83d', '{"a": "x', '"}'),
        ('{"a": 12', "{", "}"),
        ('{"a": 12 ', '{"a": 12', "}"),
        ('{"a": tru', "{", "}"),
        ('{"a": true', '{"a": true', "}"),
        ('{"a": [1, [true, ', '{"a": [1, [true', "]]}"),
        ('{"a": 1, ', '{"a": 1', "}"),
        ('{"a": 1, "b"', '{"a": 1', "}"),
    ],
)
def test_safe_part(text: str, safe: str, closing: str) -> None:
    scanner = scan([text])
    assert (text[: scanner.safe_length], scanner.closing_text) == (safe, closing)
