"""Usage: what upstreams report, and what becomes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.usage import to_tiers, to_usage


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (None, (7, 0, 0, 3)),
        ("nonsense", (7, 0, 0, 3)),
        ({}, (7, 0, 0, 3)),
        ({"total_tokens": 0}, (7, 0, 0, 3)),
        ({"prompt_tokens": 10**400, "completion_tokens": float("inf")}, (7, 0, 0, 3)),
        ({"prompt_tokens": -10, "completion_tokens": float("nan")}, (7, 0, 0, 3)),
        ({"prompt_tokens": 10.9, "completion_tokens": "5"}, (10, 0, 0, 3)),
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


def test_reasoning_at_the_top() -> None:
    """As SGLang reports it."""
    usage = to_usage(
        {"prompt_tokens": 1, "completion_tokens": 5, "reasoning_tokens": 4},
        input_estimate=0,
        output_estimate=0,
    )
    assert usage["output_tokens_details"] == {"thinking_tokens": 4}


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
