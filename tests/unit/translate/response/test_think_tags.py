"""The splitter for `<think>` tags; answers as a whole are in tests/cases."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.think_tags import (
    ThinkTagSplitter,
    has_lone_closing_tag,
)
from tests.support.scaling import assert_linear_cpu


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
        ("[THINK]a[/THINK]b", ("a", "b")),
        (" [THINK] a</think>\n[/THINK]\n\nb", ("a</think>\n", "b")),
        ("[TOOL_CALLS][]", ("", "[TOOL_CALLS][]")),
        ("[1, 2]", ("", "[1, 2]")),
        ("[THIN", ("", "[THIN")),
        ("<mm:think>\na\n</mm:think>\nb", ("a\n", "b")),
        ("<seed:think>a</seed:think>b", ("a", "b")),
        ("◁think▷a◁/think▷b", ("a", "b")),
        ("◁thin", ("", "◁thin")),
        ("<|channel>thought\na<channel|>b", ("a", "b")),
        ("<|channel>thought\n<channel|>b", ("", "b")),
        ("<|channel>final", ("", "<|channel>final")),
        # gpt-oss: complete, without `<|end|>`, without reasoning, and cut in several ways.
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            ("a", "b"),
        ),
        ("<|start|>assistant<|channel|>analysis<|message|>a<|end|>", ("a", "")),
        (
            "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b",
            ("a", "b"),
        ),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|> b", ("a", " b")),
        ("<|channel|>final<|message|>b", ("", "b")),
        ("<|start|>assistant <|channel|>final<|message|>b", ("", "b")),
        ("<|start|>assistant<|message|>b", ("", "b")),
        (
            "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
            (
                "",
                "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
            ),
        ),
        (
            (
                "<|channel|>analysis<|message|>a<|end|>\n<|start|>assistant<|channel|>analysis<|message|>b"
                "<|end|><|start|>assistant<|channel|>final<|message|>c"
            ),
            ("ab", "c"),
        ),
        (
            (
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant"
                "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
            ),
            (
                "a",
                (
                    "<|start|>assistant<|channel|>commentary to=functions.f "
                    "<|constrain|>json<|message|>{}<|call|>"
                ),
            ),
        ),
        ("<|channel|>analysis<|message|>a<|en", ("a<|en", "")),
        # The token at the end of the response, before another message, and in a quotation.
        ("<|channel|>analysis<|message|>a<|end|>b <|end|>", ("a", "b ")),
        ("<|channel|>final<|message|>b<|return|>", ("", "b")),
        ("<|channel|>final<|message|>b<|return|>\n", ("", "b")),
        ("<|channel|>final<|message|>b <|end|> c<|end|>", ("", "b <|end|> c")),
        ("<|channel|>final<|message|>b<|end|><|start|>assis", ("", "b<|start|>assis")),
        ("<|channel|>final<|message|>b<|end|><|sta", ("", "b<|end|><|sta")),
        ("<|channel|>final<|message|>b<|end|><|im_start|>", ("", "b<|end|><|im_start|>")),
        ("<|channel|>final<|message|>b<|retur", ("", "b<|retur")),
        (
            f"<|channel|>final<|message|>b<|end|>{' ' * 101}<|start|>assistant",
            ("", f"b<|end|>{' ' * 101}<|start|>assistant"),
        ),
        ("b<|return|>", ("", "b<|return|>")),
        # Texts before calls are in the channel `commentary`.
        (
            (
                "<|channel|>commentary<|message|>b<|end|>\n<|start|>assistant<|channel|>analysis"
                "<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>c<|return|>"
            ),
            ("a", "b\n\nc"),
        ),
        (
            (
                "<|channel|>commentary<|message|>b<|end|><|start|>assistant"
                "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
            ),
            (
                "",
                ("b<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>"),
            ),
        ),
        (
            "<|channel|>final<|message|>b<|end|><|channel|>final<|message|>c",
            ("", "b\n\nc"),
        ),
        ("<|channel|>anal", ("", "<|channel|>anal")),
        ("Say <|channel|>analysis<|message|>a", ("", "Say <|channel|>analysis<|message|>a")),
        ("<thinking>a</thinking>b", ("", "<thinking>a</thinking>b")),
    ],
)
def test_split(text: str, expected: tuple[str, str]) -> None:
    assert split([text]) == expected
    assert split(list(text)) == expected


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", "think", ">", " ", "\n", "a"]), max_size=8
    ).map("".join)
    | st.lists(
        st.sampled_from(
            [
                "<|channel|>analysis<|message|>",
                "<|channel|>final<|message|>",
                "<|channel|>commentary<|message|>",
                "<|start|>assistant",
                "<|end|>",
                "<|return|>",
                "<|channel",
                "[THINK]",
                "[/THINK]",
                "◁/think▷",
                "[",
                " ",
                "\n",
                "a",
            ]
        ),
        max_size=50,
    ).map("".join),
    st.lists(st.floats(0, 1), max_size=5),
)
def test_the_cuts_do_not_matter(text: str, cuts: list[float]) -> None:
    edges = [0, *sorted(int(cut * len(text)) for cut in cuts), len(text)]
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


# A response, and its text if no tag ended the reasoning; empty if a tag did.
_UNCLOSED = {
    "[THINK] means x": "[THINK] means x",
    "[THINK]": "[THINK]",
    " \n<think>\n a </thin": " \n<think>\n a </thin",
    "<mm:think>": "<mm:think>",
    "<|channel>thought": "<|channel>thought",
    "◁think▷a": "◁think▷a",
    "<|channel|>final<|message|>": "<|channel|>final<|message|>",
    "<|channel|>analysis<|message|>a": "<|channel|>analysis<|message|>a",
    "<think></think>": "",
    "<think>a</think>": "",
    "a": "",
    "": "",
    # The first reasoning is closed, so the tags are no quotations.
    "<|channel|>analysis<|message|>a<|end|><|channel|>analysis<|message|>b": "",
}


@pytest.mark.parametrize(("text", "expected"), _UNCLOSED.items())
def test_unclosed_text(text: str, expected: str) -> None:
    for pieces in ([text], list(text)):
        splitter = ThinkTagSplitter()
        for piece in pieces:
            splitter.feed(piece)
        splitter.close()
        assert splitter.get_unclosed_text() == expected


def test_an_opening_tag_does_not_end_the_expectation_of_reasoning() -> None:
    _, splitter = opened("<think>Hm")
    assert splitter.next_starts_in_thinking
    assert splitter.get_unclosed_text() == "<think>Hm"


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


@pytest.mark.parametrize("text", ["Hm[/THINK]Yes", "Hm\n</mm:think>\n\nYes", "Hm◁/think▷Yes"])
def test_a_block_of_another_kind_that_the_template_opened(text: str) -> None:
    for pieces in ((text,), tuple(text)):
        pairs, _ = opened(*pieces)
        assert "".join(text for is_reasoning, text in pairs if is_reasoning).strip() == "Hm"
        assert "".join(text for is_reasoning, text in pairs if not is_reasoning) == "Yes"


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
        ("Hm\n</mm:think>\n\nYes", True),
        ("Hm\n</seed:think>\n\nYes", True),
        ("Use <mm:think>\nx\n</mm:think>\n", False),
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


@pytest.mark.parametrize(
    ("text", "on_separate_line", "if_expected"),
    [
        ("Hm\n</think>\n\nYes", True, True),
        ("Hm\n[/THINK]\nYes", True, True),
        ("Hm\n◁/think▷\nYes", True, True),
        ("aaa</think>bbb", False, True),
        ("aaa</think>\n\nbbb", False, True),
        ("aaa.\n</think>bbb", False, True),
        ("aaa. </think>bbb", False, True),
        ("</think>bbb", False, True),
        ("aaa[/THINK]bbb", False, True),
        ("aaa</mm:think>bbb", False, True),
        ("aaa</think>", False, True),
        ("The tag </think> ends it.", False, False),
        ("It ends with </think>.", False, False),
        ("It ends with `</think>`.", False, False),
        ('It ends with "</think>", always.', False, False),
        ("It ends (</think>).", False, False),
        ("Like this:\n```\nx</think>y\n```", False, False),
        ("a</think>b</think>c", False, False),
        ("Use <think>a</think>b", False, False),
        ("<think>a</think>b", False, False),
        ("[THINK]a</think>b", False, False),
        ("nothing", False, False),
        ("", False, False),
    ],
)
def test_a_closing_tag_in_a_complete_text(
    text: str, *, on_separate_line: bool, if_expected: bool
) -> None:
    assert has_lone_closing_tag(text) is on_separate_line
    assert has_lone_closing_tag(text, expects_reasoning=True) is if_expected


_HARMONY = "<|channel|>analysis<|message|>"


@pytest.mark.parametrize(
    "unit",
    [
        "<|start|>assistant",
        f"{_HARMONY}<|end|>",
        "<|channel|>final<|message|>a<|end|>",
        "<|channel|>final<|message|>a<|end|><|start|>assistant",
        "<|end|>",
        "<|return|> ",
        f"{_HARMONY}a<|end|> ",
        "<think>",
        "</think",
        "◁think▷",
        "\n</think",
        "[",
    ],
)
def test_many_tags_take_linear_time(unit: str) -> None:
    def prepare_text(size: int) -> Callable[[], object]:
        text = unit * size
        return lambda: split([text, _HARMONY, text])

    assert_linear_cpu(prepare_text, 2000, doublings=5)
    assert_linear_cpu(lambda size: lambda: split([unit] * size), 2000, doublings=3)
