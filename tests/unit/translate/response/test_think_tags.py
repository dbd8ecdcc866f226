"""The splitter for `<think>` tags; answers as a whole are in tests/cases."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.think_tags import ThinkTagSplitter


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkTagSplitter()
    pairs = [pair for piece in pieces for pair in splitter.feed(piece)] + splitter.close()
    assert all(text for _, text in pairs)
    reasoning, text = (
        "".join(text for kind, text in pairs if kind is wanted) for wanted in (True, False)
    )
    return reasoning, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", "")),
        ("plain", ("", "plain")),
        ("<think>a</think>b", ("a", "b")),
        (" \n<think> a </think> \n b ", ("a ", "b ")),
        ("<think>a<think>b</think>c</think>", ("a<think>b", "c</think>")),
        ("a</think>b", ("", "a</think>b")),
        ("<think>", ("", "")),
        ("<think", ("", "<think")),
        (" \n ", ("", " \n ")),
    ],
)
def test_split(text: str, expected: tuple[str, str]) -> None:
    assert split([text]) == expected
    assert split(list(text)) == expected


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", "think", ">", " ", "\n", "a"]), max_size=8
    ).map("".join),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_the_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert split([text[start:end] for start, end in itertools.pairwise(edges)]) == split([text])


def test_text_is_not_held_back() -> None:
    splitter = ThinkTagSplitter()
    assert splitter.feed("Hello") == [(False, "Hello")]
    assert splitter.feed(" <think>") == [(False, " <think>")]


def test_white_space_in_front_is_looked_at_once() -> None:
    """It takes minutes otherwise."""
    pieces = [" \n \n"] * 100_000
    assert split([*pieces, "<th", "ink>a</think>b"]) == ("a", "b")
    assert split([*pieces, "b"]) == ("", "".join(pieces) + "b")


def opened(*pieces: str) -> tuple[list[tuple[bool, str]], ThinkTagSplitter]:
    splitter = ThinkTagSplitter(starts_in_thinking=True)
    return [pair for piece in pieces for pair in splitter.feed(piece)] + splitter.close(), splitter


@pytest.mark.parametrize(
    "pieces",
    [("Hm\n</think>\n\nYes",), tuple("Hm\n</think>\n\nYes"), tuple("<think>Hm\n</think>\n\nYes")],
)
def test_a_block_that_the_template_opened(pieces: tuple[str, ...]) -> None:
    pairs, splitter = opened(*pieces)
    assert "".join(text for is_reasoning, text in pairs if is_reasoning) == "Hm\n"
    assert "".join(text for is_reasoning, text in pairs if not is_reasoning) == "Yes"
    assert splitter.next_starts_in_thinking
    assert splitter.get_unclosed_text() == ""


@pytest.mark.parametrize("pieces", [("Yes, it is",), tuple("Yes, it is"), ("Yes, it is</th",)])
def test_a_block_that_was_not_there(pieces: tuple[str, ...]) -> None:
    pairs, splitter = opened(*pieces)
    assert pairs[0][0]
    assert splitter.get_unclosed_text() == "".join(pieces)
    assert not splitter.next_starts_in_thinking


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hm\n</think>\n\nYes", True),
        ("a </think> b", False),
        ("```\nx</think>\n", False),
        ("<think>\n</think>\n", False),
        ("<think>a</think>b\n</think>\n", False),
        ("So: <think>\nx\n</think>\n", False),
        ("Hm\n</think>\n\nSo: <think>\nx\n</think>\n", True),
    ],
)
def test_a_closing_tag_alone_is_noticed_and_stays(text: str, *, expected: bool) -> None:
    splitter = ThinkTagSplitter()
    said = "".join(
        said
        for character in text
        for is_reasoning, said in splitter.feed(character)
        if not is_reasoning
    )
    assert splitter.next_starts_in_thinking is expected
    assert said == (text.partition("</think>")[2].lstrip() if text.startswith("<think>") else text)
