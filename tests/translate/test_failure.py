"""Upstream errors, as recorded or documented, and what the client is told."""

from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.redaction import MAX_SEARCHED, Redactor, Secret
from anthropic_proxy.translate.failure import Source, stream_error, to_api_error
from tests.cases import cases
from tests.scaling import assert_linear_cpu

Json = dict[str, Any]
SOURCE = Source("up:1")


@pytest.mark.parametrize("case", cases("failures"))
def test_case(case: Json) -> None:
    body = case["body"].encode()
    error = to_api_error(case["status"], case.get("headers", {}), body, SOURCE)
    told = {"status": error.status, "type": error.type, "message": error.message}
    assert told | ({"headers": error.headers} if error.headers else {}) == case["told"]


def test_a_chunk_without_an_error_is_none() -> None:
    assert stream_error({"choices": [], "error": None}, SOURCE) is None


KEY = "sk-secret-0123456789"
WITH_KEY = Source("up:1", Redactor([Secret(KEY)]))


def test_the_key_goes_before_the_text_is_cut() -> None:
    """Else the beginning of a key at the cut would stay."""
    text = "x" * 1995 + KEY
    assert to_api_error(400, {}, text.encode(), WITH_KEY).message == "x" * 1995 + "***"
    assert "sk-" not in to_api_error(400, {}, ("x" * 2 + text).encode(), WITH_KEY).message


@pytest.mark.parametrize("before", range(MAX_SEARCHED - len(KEY) - 2, MAX_SEARCHED + 3))
def test_a_key_at_the_end_of_what_is_searched(before: int) -> None:
    """Redaction may shorten the text so much that its end is shown."""
    text = (KEY + " ") * (before // (len(KEY) + 1))
    text += "-" * (before - len(text)) + KEY + "-" * 100
    message = to_api_error(400, {}, text.encode(), WITH_KEY).message
    assert message.startswith("*** ***")
    assert "sk" not in message


def test_a_very_long_text_is_cut() -> None:
    assert len(to_api_error(400, {}, b"x" * 100_000, SOURCE).message) == 2000


@pytest.mark.parametrize(
    "piece",
    ["input token count ", "image_url", "tools", "maximum context length ", "9", "context size (", "{" * 3, "one of '"],
)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        body = (piece * (size // len(piece))).encode()
        return lambda: to_api_error(400, {}, body, WITH_KEY)

    assert_linear_cpu(prepare, 4000)


@pytest.mark.parametrize("digits", [15, 16, 5000])
def test_a_number_of_any_length_is_read(digits: int) -> None:
    """Python's `int` refuses thousands of digits."""
    text = f"maximum context length is {'9' * digits} tokens, your request has 9 input tokens"
    error = to_api_error(400, {}, text.encode(), SOURCE)
    assert error.message.startswith("prompt is too long: " + ("9 tokens > 9" if digits == 15 else "maximum"))
