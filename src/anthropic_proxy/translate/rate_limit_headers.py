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

from anthropic_proxy.wire.retry_after import parse_delay

_KINDS = {"-requests": "requests", "-tokens": "tokens", "": "requests"}
# A limit without remaining requests or tokens. Its reset is in the header whose name has `reset`
# in place of `remaining`: `x-ratelimit-*` of OpenAI and others, also with the unit of time at the
# end (Cerebras: `-requests-day`), `ratelimit-*` of the IETF drafts, and `anthropic-ratelimit-*`.
_ZERO = re.compile(r"\s*0(?:\.0+)?\s*", re.ASCII)
# IETF draft 8 and later: `"default";r=0;t=30`.
_EXHAUSTED_POLICY = re.compile(r";\s?r=0;\s?t=(\d{1,9})", re.ASCII)
# Headers with another form: the name and the value that show an exhausted limit, and the reset.
_EXHAUSTED_STATES = (
    # ChatGPT's Codex backend.
    ("x-codex-primary-used-percent", "100", "x-codex-primary-reset-after-seconds"),
    ("x-codex-secondary-used-percent", "100", "x-codex-secondary-reset-after-seconds"),
    # Anthropic's subscriptions.
    ("anthropic-ratelimit-unified-status", "rejected", "anthropic-ratelimit-unified-reset"),
)
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
    """Return the seconds until all exhausted limits are reset, or None.

    A reset that is a time is compared with the response's `date`. The names of `headers` are in
    lower case.
    """
    date = headers.get("date", "")
    delays = [_parse_reset_delay(reset, date) for reset in _list_resets(headers)]
    return max((delay for delay in delays if delay is not None), default=None)


def _list_resets(headers: Mapping[str, str]) -> list[str]:
    """Return the values of the headers with the resets of exhausted limits."""
    resets = [
        headers.get(name, "")
        for state, exhausted, name in _EXHAUSTED_STATES
        if headers.get(state) == exhausted
    ]
    for name, value in headers.items():
        if "limit" not in name:
            continue
        if "remaining" in name and _ZERO.fullmatch(value):
            resets.append(headers.get(name.replace("remaining", "reset"), ""))
        elif name == "ratelimit":
            resets += _EXHAUSTED_POLICY.findall(value)
    return resets


def _parse_reset_delay(reset: str, date: str) -> float | None:
    # Durations with a fraction after each unit (`1m2.5s`) and times.
    delay = parse_delay(reset.strip(), date)
    return None if delay is None else min(delay, _SECONDS_SINCE)


def _parse_reset(reset: str, now: float) -> float | None:
    """Return the time in seconds since the epoch, or None for an invalid value."""
    if not reset:
        return None
    if re.fullmatch(r"\d{1,13}(\.\d+)?", reset, re.ASCII):
        number = float(reset)
        if number >= _MILLISECONDS_SINCE:
            return number / 1000
        return number if number >= _SECONDS_SINCE else now + number
    if reset.isdecimal():
        # More digits than those of a time in milliseconds.
        return None
    delay = parse_delay(reset, "")
    return None if delay is None else now + min(delay, _SECONDS_SINCE)
