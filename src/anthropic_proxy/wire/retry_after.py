"""Parse the response headers and the texts with the delay before a retry."""

import re
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Go's durations (`6m0s`), protobuf's (`26s`), and words (`2 minutes and 5 seconds`).
_PART = (
    r"(\d{1,12}(?:\.\d{1,9})?)\s?"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)"
)
_DURATION_PART = re.compile(_PART + r"(?![a-z])", re.IGNORECASE | re.ASCII)
_DURATION = rf"(?:{_PART}(?![a-z])(?:,? and |, | )?){{1,4}}"
_DELAY = re.compile(
    r"(?:try again|retry|wait|resets?)(?: again)?(?: in| after| for)?(?: about)?"
    rf" ({_DURATION})",
    re.IGNORECASE | re.ASCII,
)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the delay before a retry in seconds, or None without a valid header."""
    # OpenAI and Azure also send milliseconds, which OpenAI's SDK prefers.
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _parse_seconds(headers.get(name, ""), "")
        if milliseconds is not None:
            return milliseconds / 1000
    return _parse_seconds(headers.get("retry-after", ""), headers.get("date", ""))


def parse_delay_text(text: str) -> float | None:
    """Return the seconds in a text such as "Please try again in 6m0s", or None."""
    match = _DELAY.search(text)
    return None if match is None else parse_duration(match[1])


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as `1h2m3.5s` or `45 seconds`, or None."""
    parts = _DURATION_PART.findall(text)
    if not parts:
        return None
    return sum(float(count) * _UNIT_SECONDS[_shorten_unit(unit)] for count, unit in parts)


def _shorten_unit(unit: str) -> str:
    unit = unit.lower()
    if unit.startswith(("ms", "milli")):
        return "ms"
    return unit[0]


def _parse_seconds(value: str, date: str) -> float | None:
    """Parse a number of seconds, or a date relative to the response's `date` (RFC 9110, 10.2.3)."""
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        wait: timedelta = parsedate_to_datetime(value) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
