"""Texts of real servers: which of them are context overflows, and the sizes that they state."""

from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.context_overflow import (
    ContextSizes,
    is_context_overflow,
    parse_context_sizes,
)
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    parse_failure,
)
from anthropic_proxy.wire.json_codec import dumps
from tests.support.cases import texts
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]
UPSTREAM = UpstreamIdentity("up:1")


def _failure(case: Json) -> UpstreamFailure:
    error = {"message": case["text"], "code": case.get("code")}
    return parse_failure(case.get("status", 400), {}, dumps({"error": error}), UPSTREAM)


@pytest.mark.parametrize("case", texts("context_overflows"))
def test_overflows(case: Json) -> None:
    failure = _failure(case)
    assert is_context_overflow(failure)
    sizes = parse_context_sizes(failure, case.get("max_tokens", 0))
    assert sizes == ContextSizes(**case["sizes"])


@pytest.mark.parametrize("case", texts("context_overflows"))
def test_overflows_in_other_letters(case: Json) -> None:
    assert is_context_overflow(_failure({**case, "text": case["text"].upper()}))


_ECHOED = "prompt is too long: 210000 tokens > 200000 maximum"


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"type": "string_too_long", "loc": ["body", "user"], "msg": "Too long"}, False),
        ({"type": "missing", "loc": ["body", "n"], "msg": "Field required"}, False),
        ({"loc": ["body"], "msg": "Prompt exceeds the context length"}, True),
    ],
)
def test_a_validation_error_repeats_the_conversation(detail: Json, *, expected: bool) -> None:
    """FastAPI adds the input, in which users may discuss such errors."""
    body = dumps({"detail": [{**detail, "input": {"messages": [_ECHOED]}}, "text"]})
    assert is_context_overflow(parse_failure(422, {}, body, UPSTREAM)) is expected


def test_sizes_of_llama_cpp_have_fields() -> None:
    error = {"code": "exceed_context_size_error", "n_prompt_tokens": 9020, "n_ctx": 4096}
    failure = parse_failure(400, {}, dumps({"error": error}), UPSTREAM)
    assert parse_context_sizes(failure) == ContextSizes(prompt=9020, limit=4096)


@pytest.mark.parametrize(
    ("sizes", "window"),
    [
        (ContextSizes(prompt=1, limit=8), 8),
        (ContextSizes(prompt=1, limit=8, limits_prompt_only=True), 0),
    ],
)
def test_the_limit_of_the_prompt_is_not_the_window(sizes: ContextSizes, window: int) -> None:
    assert sizes.window == window


def test_a_total_below_the_requested_completion_is_the_prompt() -> None:
    text = "exceeded model token limit: 8000 (requested: 9000)"
    sizes = parse_context_sizes(_failure({"text": text}), 9000)
    assert (sizes.prompt, sizes.limit) == (9000, 8000)


@pytest.mark.parametrize(
    "piece",
    [
        "123 ",
        "tokens ",
        "exceeds ",
        "1, 2] ",
        "max_",
        "(",
        "input ",
        "prompt. ",
        "\n",
        "9",
        "must be ",
    ],
)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        failure = _failure({"text": piece * (size // len(piece))})
        return lambda: parse_context_sizes(failure)

    assert_linear_cpu(prepare, 4000)


@pytest.mark.parametrize("case", texts("other_failures"))
def test_other_failures(case: Json) -> None:
    assert not is_context_overflow(_failure(case))
    assert parse_context_sizes(_failure(case)) == ContextSizes()
