"""The wait before a retry, in every form that upstreams have for it."""

import pytest

from anthropic_proxy.wire.retry_after import parse_delay_text, parse_duration, parse_retry_after

_DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "1.2.3"}, None),
        ({"retry-after": "."}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "7"}, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        # The milliseconds are never a date.
        ({"retry-after-ms": "Fri, 15 Jan 2027 08:00:30 GMT", "date": _DATE}, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": _DATE}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:59:00 GMT", "date": _DATE}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 -0000", "date": _DATE}, None),
    ],
)
def test_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please retry in 26s.", 26),
        ("Please try again in 4.77s. Need more tokens?", 4.77),
        ("Please try again in 430ms.", 0.43),
        ("Please try again in 6m0s.", 360),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("Please retry after 45 seconds.", 45),
        ("wait 2 minutes and 5 seconds before", 125),
        ("Try again in 20 Minutes", 1200),
        ("resets in 2 days", 172_800),
        ("Please try again in a moment", None),
        ("retry 3 times", None),
        ("it took 26s", None),
        ("retry in 26 sheep", None),
        ("", None),
    ],
)
def test_delays_in_texts(text: str, seconds: float | None) -> None:
    assert parse_delay_text(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"), [("26s", 26), ("1.5s", 1.5), ("5ms", 0.005), ("soon", None), ("", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds
