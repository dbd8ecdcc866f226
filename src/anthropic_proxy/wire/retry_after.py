"""How long an upstream wants to be left alone, in the forms in which headers say so."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the upstream wants to be asked again; None when it does not say. OpenAI and Azure say it in
    milliseconds, too, which OpenAI's SDK prefers.
    """
    milliseconds = _parse_seconds(headers.get("retry-after-ms", ""), "")
    seconds = _parse_seconds(headers.get("retry-after", ""), headers.get("date", ""))
    return seconds if milliseconds is None else milliseconds / 1000


def _parse_seconds(value: str, date: str) -> float | None:
    """RFC 9110, 10.2.3: a number of seconds, or a date, which is taken relative to the answer's own `date`."""
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        wait: timedelta = parsedate_to_datetime(value) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
