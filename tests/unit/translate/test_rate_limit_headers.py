"""Rate limit headers: every form that upstreams have for them."""

import pytest

from anthropic_proxy.translate.rate_limit_headers import (
    convert_rate_limit_headers,
    find_reset_delay,
)

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def test_openai() -> None:
    upstream = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m1s",
        "content-type": "application/json",
    }
    assert convert_rate_limit_headers(upstream, NOW) == {
        "anthropic-ratelimit-requests-limit": "500",
        "anthropic-ratelimit-requests-remaining": "499",
        "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:00Z",
        "anthropic-ratelimit-tokens-limit": "30000",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2027-01-15T08:06:01Z",
    }


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("60", "2027-01-15T08:01:00Z"),
        ("1.5", "2027-01-15T08:00:01Z"),
        ("1h2m3s", "2027-01-15T09:02:03Z"),
        ("1m2.5s", "2027-01-15T08:01:02Z"),
        ("9" * 12 + "d", "2058-09-23T09:46:40Z"),
        ("1800000100", "2027-01-15T08:01:40Z"),
        ("1800000100000", "2027-01-15T08:01:40Z"),
        ("999999999", "2058-09-23T09:46:39Z"),
        ("1000000000", "2001-09-09T01:46:40Z"),
        ("99999999999", "5138-11-16T09:46:39Z"),
        ("100000000000", "1973-03-03T09:46:40Z"),
        ("soon", None),
        ("1x", None),
        ("", None),
        ("9" * 99, None),
        ("9" * 15, None),
        ("\u0663", None),
        ("\u0663s", None),
    ],
)
def test_reset(reset: str, expected: str | None) -> None:
    headers = {"anthropic-ratelimit-requests-reset": expected} if expected else {}
    assert convert_rate_limit_headers({"x-ratelimit-reset": reset}, NOW) == headers


def test_a_number_that_cannot_stand_in_a_header() -> None:
    assert convert_rate_limit_headers({"x-ratelimit-limit": "\u0663"}, NOW) == {}


def test_the_named_kind_wins() -> None:
    upstream = {
        "x-ratelimit-limit": "1",
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining": "many",
    }
    assert convert_rate_limit_headers(upstream, NOW) == {"anthropic-ratelimit-requests-limit": "2"}


_DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    ("upstream", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "45s"}, 45),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "45s"}, None),
        ({"x-ratelimit-reset": "45s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000030000"}, None),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000030000", "date": _DATE},
            30,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1799999999", "date": _DATE}, 0),
    ],
)
def test_the_delay_until_a_reset(upstream: dict[str, str], seconds: float | None) -> None:
    assert find_reset_delay(upstream) == seconds
