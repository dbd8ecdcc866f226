"""Usage: what upstreams report, and what becomes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.usage import UsageCounter, to_tiers, to_usage


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (None, (7, 0, 0, 3)),
        ("nonsense", (7, 0, 0, 3)),
        ({}, (7, 0, 0, 3)),
        ({"total_tokens": 0}, (7, 0, 0, 3)),
        ({"prompt_tokens": 10**400, "completion_tokens": float("inf")}, (7, 0, 0, 3)),
        ({"prompt_tokens": -10, "completion_tokens": float("nan")}, (7, 0, 0, 3)),
        ({"prompt_tokens": 10.9, "completion_tokens": "five"}, (10, 0, 0, 3)),
        ({"prompt_tokens": True, "completion_tokens": False}, (7, 0, 0, 3)),
        # Counts as strings.
        ({"prompt_tokens": "10", "completion_tokens": "5"}, (10, 0, 0, 5)),
        ({"prompt_tokens": " 10 ", "completion_tokens": "5.0"}, (10, 0, 0, 5)),
        ({"input_tokens": "10", "output_tokens": "5"}, (10, 0, 0, 5)),
        (
            {
                "prompt_tokens": "10",
                "completion_tokens": "5",
                "prompt_tokens_details": {"cached_tokens": "4"},
            },
            (6, 0, 4, 5),
        ),
        ({"prompt_tokens": "-10", "completion_tokens": "5.5"}, (7, 0, 0, 3)),
        ({"prompt_tokens": "1e3", "completion_tokens": "٣"}, (7, 0, 0, 3)),
        ({"prompt_tokens": "9" * 10000, "completion_tokens": "0"}, (7, 0, 0, 3)),
        ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 0, 0, 5)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            (6, 0, 4, 5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 4}, (6, 0, 4, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, (6, 0, 4, 5)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5},
            },
            (1, 5, 4, 5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 99},
            },
            (0, 0, 10, 5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None},
            (10, 0, 0, 5),
        ),
        # Names of Qwen, LiteLLM and vLLM for tokens that were written to the cache.
        (
            {
                "prompt_tokens": 1100,
                "completion_tokens": 5,
                "prompt_tokens_details": {
                    "cached_tokens": 0,
                    "cache_creation_input_tokens": 1000,
                },
            },
            (100, 1000, 0, 5),
        ),
        (
            {
                "prompt_tokens": 1100,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 1000},
            },
            (100, 1000, 0, 5),
        ),
        (
            {
                "prompt_tokens": 1100,
                "completion_tokens": 5,
                "cache_creation_input_tokens": 1000,
                "cache_read_input_tokens": 60,
            },
            (40, 1000, 60, 5),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 80, "created_cache_tokens": 10},
            },
            (10, 10, 80, 5),
        ),
        # The names of Anthropic and of the Responses API: only the latter include cached tokens.
        ({"input_tokens": 10, "output_tokens": 5}, (10, 0, 0, 5)),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 4,
            },
            (10, 3, 4, 5),
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
            },
            (5, 1, 4, 5),
        ),
        (
            {
                "prompt_tokens": 10,
                "input_tokens": 6,
                "completion_tokens": 5,
                "cache_read_input_tokens": 4,
            },
            (6, 0, 4, 5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}, (10, 0, 0, 30)),
        ({"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 40}, (7, 0, 0, 5)),
        ({"prompt_tokens": 10.0, "completion_tokens": -5}, (10, 0, 0, 3)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (7, 0, 0, 3)),
    ],
)
def test_counts(reported: Any, expected: tuple[int, int, int, int]) -> None:
    usage = to_usage(reported, input_estimate=7, output_estimate=3)
    names = (
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    )
    assert tuple(usage[name] for name in names) == expected


@pytest.mark.parametrize(
    ("completion", "total", "output"),
    [(3, 22, 12), (12, 22, 12), (12, 0, 12), (3, 13, 12), (12, 31, 21), (9, 19, 9)],
    ids=[
        "left out of completion",
        "within completion",
        "no total",
        "left out of both",
        "less than the answer",
        "nothing but reasoning",
    ],
)
def test_reasoning_counts_as_output_once(completion: int, total: int, output: int) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 9}}
    reported = {
        "prompt_tokens": 10,
        "completion_tokens": completion,
        "total_tokens": total,
        **details,
    }
    usage = to_usage(reported, input_estimate=0, output_estimate=0)
    assert (usage["output_tokens"], usage["output_tokens_details"]) == (
        output,
        {"thinking_tokens": 9},
    )


def test_reasoning_with_anthropics_names() -> None:
    usage = to_usage(
        {
            "input_tokens": 1,
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 4},
        },
        input_estimate=0,
        output_estimate=0,
    )
    assert (usage["output_tokens"], usage["output_tokens_details"]) == (5, {"thinking_tokens": 4})


def test_reasoning_at_the_top() -> None:
    """As SGLang reports it."""
    usage = to_usage(
        {"prompt_tokens": 1, "completion_tokens": 5, "reasoning_tokens": 4},
        input_estimate=0,
        output_estimate=0,
    )
    assert usage["output_tokens_details"] == {"thinking_tokens": 4}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([{"usage": {"prompt_tokens": 9}}, {"usage": {"prompt_tokens": 8}}], (8, 3)),
        ([{"usage": {"prompt_tokens": 9}}, {"usage": None}, {"usage": {}}], (9, 3)),
        ([{"usage": {"prompt_tokens": 9}}, {"usage": {"prompt_tokens": 0}}], (9, 3)),
        ([{"usage": {"prompt_tokens": 9}}, {"usage": "9"}, {"usage": [9]}], (9, 3)),
        ([{"usage": {"completion_tokens": 4}}, {"usage": {"prompt_tokens": 0}}], (7, 4)),
        ([{"usage": {"prompt_tokens": 9}}, {"usage": {"completion_tokens": 4}}], (9, 4)),
        ([{"x_groq": {"usage": {"prompt_tokens": 9}}, "usage": {"prompt_tokens": 8}}], (8, 3)),
        ([{"choices": [None, {"usage": {"prompt_tokens": 9}}]}], (9, 3)),
        ([{"choices": None, "x_groq": "none"}], (7, 3)),
    ],
)
def test_the_last_usage_with_a_prompt_counts(
    chunks: list[dict[str, Any]], expected: tuple[int, int]
) -> None:
    counter = UsageCounter()
    counter.add("x" * 12)
    for chunk in chunks:
        counter.record(chunk)
    usage = counter.build_usage(7, 0)
    assert (usage["input_tokens"], usage["output_tokens"]) == expected


counts = st.integers(-5, 50)


@given(counts, counts, counts, counts, counts)
def test_the_parts_add_up_to_the_prompt(
    prompt: int, completion: int, cached: int, written: int, reasoning: int
) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    reported = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
    }
    reported |= {
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    usage = to_usage(reported, input_estimate=0, output_estimate=0)
    numbers = [value for value in usage.values() if isinstance(value, int)]
    assert all(value >= 0 for value in numbers)
    assert sum(numbers[:3]) == max(0, prompt)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, {}),
        ("auto", {}),
        (["default"], {}),
        ("default", {"service_tier": "standard"}),
        ("flex", {"service_tier": "standard"}),
        ("priority", {"service_tier": "priority"}),
        ("fast", {"service_tier": "priority"}),
    ],
)
def test_tiers(told: Any, expected: dict[str, str]) -> None:
    assert to_tiers(told, wants_fast_mode=False) == expected
    speed = {"standard": "standard", "priority": "fast"}.get(expected.get("service_tier", ""))
    assert to_tiers(told, wants_fast_mode=True) == expected | ({"speed": speed} if speed else {})


def test_a_number_that_no_count_can_have() -> None:
    """Clients read numbers up to 2**53 exactly."""
    counts = []
    for tokens in (2**53, 2**53 + 1):
        usage = to_usage({"prompt_tokens": tokens}, input_estimate=7, output_estimate=0)
        counts.append(usage["input_tokens"])
    assert counts == [2**53, 7]
