"""Parse the response headers and the texts with the delay before a retry."""

import re
from collections.abc import Mapping
from datetime import datetime
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
    r"(?:again|retry|wait|resets?|available)(?: again)?(?: in| after| for)?(?: about)?"
    rf":? ({_DURATION})",
    re.IGNORECASE | re.ASCII,
)
_WHOLE_DURATION = re.compile(_DURATION, re.IGNORECASE | re.ASCII)
# As in `请在 5 分 30 秒后重试`.
_CHINESE_UNITS = {"毫秒": "ms", "秒": "s", "分": "m", "小时": "h", "天": "d"}
_CHINESE_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) ?(毫秒|秒|分|小时|天)", re.ASCII)
_CHINESE_DELAY = re.compile(
    r"((?:\d{1,12}(?:\.\d{1,9})? ?(?:毫秒|秒|分|小时|天)钟? ?){1,4})(?:之|以)?(?:后|再)", re.ASCII
)
# A time with its zone: without one, it may be the local time of the server.
_TIME = re.compile(
    r"(?:again|retry|resets?|available|access)(?: again)?(?: at| on| after| until)?:? "
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?UTC|Z|[+-]\d\d:?\d\d))",
    re.IGNORECASE | re.ASCII,
)

# Numbers that are times instead of delays: seconds and milliseconds since the epoch.
_EPOCH_SECONDS = (1e9, 1e10)
_EPOCH_MILLISECONDS = (1e12, 1e13)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the delay before a retry in seconds, or None without a valid header."""
    # OpenAI and Azure also send milliseconds, which OpenAI's SDK prefers.
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        value = headers.get(name, "")
        if _is_number(value):
            return float(value) / 1000
    return parse_delay(headers.get("retry-after", ""), headers.get("date", ""))


def parse_delay_text(text: str, date: str = "") -> float | None:
    """Return the seconds in a text such as "Please try again in 6m0s", or None.

    A time in the text is compared with `date`, the header of the response.
    """
    match = _DELAY.search(text)
    if match is not None:
        return parse_duration(match[1])
    match = _CHINESE_DELAY.search(text)
    if match is not None:
        parts = _CHINESE_PART.findall(match[1])
        return _sum_parts([(count, _CHINESE_UNITS[unit]) for count, unit in parts])
    match = _TIME.search(text)
    return None if match is None else parse_delay(match[1], date)


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as `1h2m3.5s` or `45 seconds`, or None."""
    parts = _DURATION_PART.findall(text)
    if not parts:
        return None
    return _sum_parts([(count, _shorten_unit(unit)) for count, unit in parts])


def _sum_parts(parts: list[tuple[str, str]]) -> float:
    return sum(float(count) * _UNIT_SECONDS[unit] for count, unit in parts)


def _shorten_unit(unit: str) -> str:
    unit = unit.lower()
    if unit.startswith(("ms", "milli")):
        return "ms"
    return unit[0]


def parse_delay(value: str, date: str) -> float | None:
    """Return the seconds of a delay or until a time; None for other values.

    `value` is a number of seconds, a duration, seconds or milliseconds since the epoch, an RFC 3339
    time, or an HTTP date. Times are compared with `date`, the header of the response (RFC 9110,
    10.2.3).
    """
    if not _is_number(value):
        if _WHOLE_DURATION.fullmatch(value):
            return parse_duration(value)
        return _subtract(_parse_time(value), _parse_time(date))
    number = float(value)
    for (lowest, highest), unit in ((_EPOCH_SECONDS, 1), (_EPOCH_MILLISECONDS, 1000)):
        if lowest <= number < highest:
            return _subtract(number / unit, _parse_time(date))
    return number


def _is_number(value: str) -> bool:
    return value.isascii() and value.replace(".", "", 1).isdecimal()


def _parse_time(value: str) -> float | None:
    """Return an HTTP date or an RFC 3339 time in seconds since the epoch.

    Returns None for other values, and for times without a zone.
    """
    try:
        time = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        try:
            time = datetime.fromisoformat(value.upper().replace("UTC", "Z").replace(" Z", "Z"))
        except ValueError:
            return None
    return None if time.tzinfo is None else time.timestamp()


def _subtract(time: float | None, now: float | None) -> float | None:
    """Return the seconds from `now` to `time`; 0 if it is over, None if one of them is unknown."""
    if time is None or now is None:
        return None
    return max(time - now, 0.0)
