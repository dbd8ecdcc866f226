"""The wait before a retry, in every form that upstreams have for it."""

import pytest

from anthropic_proxy.wire.retry_after import parse_retry_after

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
