"""Estimates of texts: near the counts of two vocabularies, and without surprises."""

import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tokens.text_estimate import estimate_text
from tests.support.reference_tokens import COUNTS, read_sample, read_samples
from tests.support.scaling import assert_linear_cpu, assert_linear_lines

SAMPLES = read_samples()

# The limits that docs and decisions promise.
PROMISED = {"english": 0.15, "code": 0.15, "json": 0.15, "chinese": 0.3, "japanese": 0.3}


@pytest.mark.parametrize("vocabulary", ["o200k", "qwen3"])
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str, vocabulary: str) -> None:
    sample = SAMPLES[name]
    error = sample["max_error"]
    assert estimate_text(read_sample(name)) == pytest.approx(sample[vocabulary], rel=error)


@pytest.mark.parametrize("kind", PROMISED)
def test_promised_limits(kind: str) -> None:
    errors = [sample["max_error"] for name, sample in SAMPLES.items() if name.startswith(kind)]
    assert len(errors) >= 2
    assert max(errors) <= PROMISED[kind]


def test_each_sample_has_counts() -> None:
    assert {file.stem for file in COUNTS.parent.glob("*.txt")} == set(SAMPLES)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        (" ", 1, 1),
        ("Hello", 1, 2),
        ("What is HTTP? 0", 4, 8),
        ("The quick brown fox jumps over the lazy dog.", 8, 14),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 12, 24),
        ("人工智能正在改变世界", 5, 12),
        ("ありがとうございます", 4, 9),
        ("안녕하세요 여러분", 4, 9),
        ("Быстрая коричневая лиса", 6, 14),
        ("🌍" * 4, 4, 12),
        # Colours of a terminal.
        ("\x1b[31merror\x1b[0m", 5, 11),
        # A half of a surrogate pair, which JSON permits.
        ("\ud83d", 1, 2),
        # Spaces, which no pattern counts.
        (" " * 1600, 100, 100),
    ],
)
def test_texts(text: str, low: int, high: int) -> None:
    assert low <= estimate_text(text) <= high


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [
        ("azAZ", 220),
        ("09", 1067),
        ("!~\x00\x1b\x7f", 270),
        (" \t\n\v\f\r"[1:], 790),
        # The first and last characters of scripts.
        ("\xa1\xff\u0100\u024f", 1350),
        ("\u0280\u03ff", 670),
        ("\u0400\u04ff", 320),
        ("\u0531\u05ea", 470),
        ("\u0600\u07ff", 450),
        ("\u0905\u0eff", 590),
        ("\u10d0\u1eff", 650),
        ("\u2013\u2fff", 700),
        ("\u3001\u3fff", 650),
        ("\u4000\u9fff", 740),
        ("\ua000\ud7a3", 760),
        ("\ue000\uffe6", 1000),
        ("\U00010000\U0001f600\U0010ffff", 2600),
    ],
)
def test_classes(characters: str, tokens: int) -> None:
    for character in characters:
        assert estimate_text(character * 1000) == pytest.approx(tokens, abs=1), character


def test_punctuation_after_a_space() -> None:
    assert estimate_text("a (b\n" * 1000) - estimate_text("a( b\n" * 1000) == 700


# Texts of all classes of characters, whose patterns occur more often than in any Unicode text.
TEXTS = st.text() | st.text(st.sampled_from("ab Z0.\n\té世あ한я🌍─"))


@given(TEXTS, TEXTS)
def test_more_text_is_not_fewer_tokens(first: str, second: str) -> None:
    assert estimate_text(first + second) >= estimate_text(first) >= 0


@given(TEXTS, TEXTS)
def test_a_joint_adds_few_tokens(first: str, second: str) -> None:
    """Parts of a text have about as many tokens as the whole."""
    parts = estimate_text(first) + estimate_text(second)
    assert abs(estimate_text(first + second) - parts) <= 5


@given(TEXTS)
def test_tokens_are_bounded_by_characters(text: str) -> None:
    assert len(text) // 16 <= estimate_text(text) <= 1 + 3 * len(text)


@pytest.mark.parametrize(
    "unit", ["word ", "a", " ", "\n", "0", ".", " .", "a.", "世", "─", "🌍", "é ", string.printable]
)
def test_cost_is_linear(unit: str) -> None:
    def prepare(size: int) -> Callable[[], Any]:
        text = unit * size
        return lambda: estimate_text(text)

    assert_linear_lines(prepare, 100)
    assert_linear_cpu(prepare, 1000)
