"""How long an upstream wants to be left alone, in the forms in which headers say so."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the upstream wants to be asked again; None when it does not say. OpenAI and Azure say it in
    milliseconds, too, which OpenAI's SDK prefers.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""), "")
    seconds = _seconds(headers.get("retry-after", ""), headers.get("date", ""))
    return seconds if milliseconds is None else milliseconds / 1000


def _seconds(retry_after: str, date: str) -> float | None:
    """RFC 9110, 10.2.3: a number of seconds, or a date, which is taken relative to the answer's own `date`."""
    if retry_after.replace(".", "", 1).isdecimal():
        return float(retry_after)
    try:
        wait: timedelta = parsedate_to_datetime(retry_after) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
