"""Parse the response headers with the delay before a retry."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the delay before a retry in seconds, or None without a valid header."""
    # OpenAI and Azure also send milliseconds, which OpenAI's SDK prefers.
    milliseconds = _parse_seconds(headers.get("retry-after-ms", ""), "")
    if milliseconds is not None:
        return milliseconds / 1000
    return _parse_seconds(headers.get("retry-after", ""), headers.get("date", ""))


def _parse_seconds(value: str, date: str) -> float | None:
    """Parse a number of seconds, or a date relative to the response's `date` (RFC 9110, 10.2.3)."""
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        wait: timedelta = parsedate_to_datetime(value) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
