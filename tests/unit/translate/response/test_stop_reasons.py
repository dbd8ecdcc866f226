"""The finish reasons, and the stop reasons or failures that they become."""

from typing import Any

import pytest

from anthropic_proxy.translate.response.stop_reasons import (
    FAILURES,
    STOP_REASONS,
    FinishReason,
    parse_finish_reason,
    to_stop_fields,
)
from tests.support.finish_words import WORDED_FAILURES, WORDED_STOP_REASONS


def _spellings(word: str) -> list[str]:
    camel = "".join(part.capitalize() for part in word.split("_"))
    return [
        word,
        word.upper(),
        word.replace("_", "-"),
        word.replace("_", " ").title(),
        camel,
        camel[0].lower() + camel[1:],
        f"FINISH_REASON_{word.upper()}",
        f"FinishReason.{word.upper()}",
        f" {word}\n",
    ]


@pytest.mark.parametrize("finish_reason", STOP_REASONS)
@pytest.mark.parametrize("has_calls", [True, False], ids=["calls", "no calls"])
def test_a_stop_reason_fits_the_content(finish_reason: str, has_calls: bool) -> None:
    reason = to_stop_fields(STOP_REASONS[finish_reason], has_calls=has_calls)["stop_reason"]
    if STOP_REASONS[finish_reason] in ("end_turn", "tool_use"):
        assert reason == ("tool_use" if has_calls else "end_turn")
    else:
        assert reason == STOP_REASONS[finish_reason]


def test_a_refusal_has_details() -> None:
    assert to_stop_fields("end_turn", has_calls=True, refusal="No.") == {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": "No."},
    }
    assert "stop_details" not in to_stop_fields("end_turn", has_calls=False)


@pytest.mark.parametrize("word", STOP_REASONS)
def test_stop_reasons_in_any_spelling(word: str) -> None:
    for spelling in _spellings(word):
        reason = parse_finish_reason(spelling)
        assert reason == FinishReason(spelling, STOP_REASONS[word])


@pytest.mark.parametrize("word", FAILURES)
def test_failures_in_any_spelling(word: str) -> None:
    for spelling in _spellings(word):
        reason = parse_finish_reason(spelling)
        assert reason == FinishReason(spelling, failure_status=FAILURES[word])


@pytest.mark.parametrize("word", WORDED_FAILURES)
def test_failures_by_their_words(word: str) -> None:
    for spelling in _spellings(word):
        reason = parse_finish_reason(spelling)
        assert reason == FinishReason(spelling, failure_status=WORDED_FAILURES[word])


@pytest.mark.parametrize("word", WORDED_STOP_REASONS)
def test_stop_reasons_by_their_words(word: str) -> None:
    for spelling in _spellings(word):
        reason = parse_finish_reason(spelling)
        assert reason == FinishReason(spelling, WORDED_STOP_REASONS[word])


def test_no_word_has_two_meanings() -> None:
    assert not STOP_REASONS.keys() & FAILURES.keys()


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "null", "NULL", "None", " null ", "undefined", "not_finished", "NOT_FINISHED"),
        *("FINISH_REASON_UNSPECIFIED", False, 0, {}, {"type": None}, [], "-"),
    ],
)
def test_reasons_that_end_nothing(value: Any) -> None:
    assert parse_finish_reason(value) is None


@pytest.mark.parametrize(
    "value",
    [
        # vLLM, when it detects a repeating pattern.
        "repetition",
        # Gemini and the AI SDK: the server does not know the reason.
        *("OTHER", "unknown", "other"),
        *("whim", "stopped early", "lengthy", "no error", "停止", "max", "end", 7, ["stop"], True),
        # Only whole words count.
        *("terror", "failsafe", "contextual", "not_blocked", "without_errors", "unfiltered"),
        *("stop_limit", "tokens", "rate", "limit"),
        "length" * 1000,
        "stop" + " " * 1000,
    ],
)
def test_unknown_words(value: Any) -> None:
    reason = parse_finish_reason(value)
    assert reason is not None
    assert reason.is_unknown
    assert not reason.is_cut
    assert len(reason.word) <= 101


@pytest.mark.parametrize(
    ("value", "stop_reason", "failure_status"),
    [
        # A prefix may be less severe than the part after it, or more.
        ("content_filter: PROHIBITED_CONTENT", "refusal", None),
        ("stop: MAX_TOKENS", "max_tokens", None),
        ("error: MALFORMED_FUNCTION_CALL", None, 500),
        ("content_filter: whim", "refusal", None),
        ("stop: abort", None, 500),
        ("stop: internal_error", None, 500),
        ("stop: length_limit", "max_tokens", None),
        ("FinishReason.ERROR_LIMIT", "model_context_window_exceeded", None),
        # The proxy's table of error codes.
        ("slow_down", None, 529),
        ("Throttling.RateQuota", None, 429),
        # SGLang's native form.
        ({"type": "length", "length": 5}, "max_tokens", None),
        ({"type": "abort", "message": "Client disconnected"}, None, 500),
    ],
)
def test_compound_values(value: Any, stop_reason: str | None, failure_status: int | None) -> None:
    reason = parse_finish_reason(value)
    assert reason is not None
    assert (reason.stop_reason, reason.failure_status) == (stop_reason, failure_status)


def test_severity() -> None:
    words = ("whim", "stop", "length", "model_length", "content_filter", "abort")
    severities = [reason.severity for reason in map(parse_finish_reason, words) if reason]
    assert severities == sorted(set(severities))
    assert len(severities) == len(words)


def test_a_long_word_is_cut_and_unknown() -> None:
    """The cost does not depend on its length."""
    reason = parse_finish_reason("error:" * 100_000)
    assert reason is not None
    assert reason.is_unknown
    assert len(reason.word) < 1000
