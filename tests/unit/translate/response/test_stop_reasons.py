"""The finish reasons, and the scanner for stop sequences."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.stop_reasons import (
    STOP_REASONS,
    StopSequenceScanner,
    to_stop_fields,
)


@pytest.mark.parametrize("finish_reason", STOP_REASONS)
@pytest.mark.parametrize("has_calls", [True, False], ids=["calls", "no calls"])
def test_a_stop_reason_fits_the_content(finish_reason: str, has_calls: bool) -> None:
    reason = to_stop_fields(finish_reason, has_calls=has_calls)["stop_reason"]
    if STOP_REASONS[finish_reason] in ("end_turn", "tool_use"):
        assert reason == ("tool_use" if has_calls else "end_turn")
    else:
        assert reason == STOP_REASONS[finish_reason]


def test_a_refusal_has_details() -> None:
    assert to_stop_fields("stop", has_calls=True, refusal="No.") == {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": "No."},
    }
    assert "stop_details" not in to_stop_fields("stop", has_calls=False)


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
