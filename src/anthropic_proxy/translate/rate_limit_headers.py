"""Convert the rate limit headers of upstreams to those of the Anthropic API.

- OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`. The reset is a duration (`6m0s`,
  `20ms`, or seconds).
- Other servers omit the last part of the name. OpenRouter's reset is a time in milliseconds since
  the epoch.
- Anthropic: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`. The reset is an
  RFC 3339 time.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_KINDS = {"-requests": "requests", "-tokens": "tokens", "": "requests"}
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d++(?:\.\d++)?+)(ms|[dhms])"
_PART_OF_DURATION = re.compile(_PART, re.ASCII)
_DURATION = re.compile(f"(?:{_PART})++", re.ASCII)
_MILLISECONDS_SINCE = 1e11
_SECONDS_SINCE = 1e9


def convert_rate_limit_headers(upstream_headers: Mapping[str, str], now: float) -> dict[str, str]:
    """Return Anthropic's rate limit headers for an upstream's response headers.

    The names of `upstream_headers` are in lower case. `now` is in seconds since the epoch.
    """
    headers: dict[str, str] = {}
    for suffix, kind in _KINDS.items():
        for name in ("limit", "remaining"):
            value = upstream_headers.get(f"x-ratelimit-{name}{suffix}", "")
            if value.isascii() and value.isdecimal():
                headers.setdefault(f"anthropic-ratelimit-{kind}-{name}", value)
        reset = _parse_reset(upstream_headers.get(f"x-ratelimit-reset{suffix}", ""), now)
        if reset is not None:
            text = datetime.fromtimestamp(reset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            headers.setdefault(f"anthropic-ratelimit-{kind}-reset", text)
    return headers


def find_reset_delay(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until an exhausted limit is reset, or None.

    A reset that is a time is compared with the response's `date`. The names of `headers` are in
    lower case.
    """
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        now = 0.0
    for suffix in _KINDS:
        if headers.get(f"x-ratelimit-remaining{suffix}", "").strip() != "0":
            continue
        reset = _parse_reset(headers.get(f"x-ratelimit-reset{suffix}", ""), now)
        # Without a date, a time cannot be converted to a delay.
        if reset is not None and reset - now <= _SECONDS_SINCE / 2:
            return max(reset - now, 0.0)
    return None


def _parse_reset(reset: str, now: float) -> float | None:
    """Return the time in seconds since the epoch, or None for an invalid value."""
    if re.fullmatch(r"\d{1,13}(\.\d+)?", reset, re.ASCII):
        number = float(reset)
        if number >= _MILLISECONDS_SINCE:
            return number / 1000
        return number if number >= _SECONDS_SINCE else now + number
    if not _DURATION.fullmatch(reset):
        return None
    seconds = sum(float(count) * _UNITS[unit] for count, unit in _PART_OF_DURATION.findall(reset))
    return now + min(seconds, _SECONDS_SINCE)
