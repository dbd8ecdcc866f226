"""Find the delay that an upstream requests before a retry, in headers, fields and texts."""

import re
from typing import Any

from anthropic_proxy.translate.rate_limit_headers import find_reset_delay
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.retry_after import (
    parse_delay,
    parse_delay_text,
    parse_duration,
    parse_retry_after,
)

# Fields of the error object, or of its `metadata`, with the factor that converts numbers to
# seconds. Strings may also be durations.
_DELAY_FIELDS = (
    # The Codex backend (`usage_limit_reached`).
    ("resets_in_seconds", 1),
    # Gateways with Anthropic's format, LiteLLM and OpenRouter.
    ("retry_after", 1),
    ("retry_after_seconds", 1),
    ("retryAfter", 1),
    ("retryAfterSeconds", 1),
    ("reset_after", 1),
    ("retry_after_ms", 0.001),
    ("retryAfterMs", 0.001),
)
# Fields with the time at which a limit is reset: of the Codex backend and of gateways.
_TIME_FIELDS = ("resets_at", "reset_at", "resetsAt", "resetAt", "reset_time", "retry_at")
# Google's RetryInfo in a text that contains the JSON of the error.
_RETRY_INFO_TEXT = re.compile(r"retryDelay\W{1,8}(\d{1,9}(?:\.\d{1,9})?s)")
# Times in milliseconds since the epoch are smaller.
_MAX_NUMBER = 1e13
# Seconds. Longer delays have no meaning.
_MAX_DELAY = 366 * 86400


def find_retry_delay(failure: UpstreamFailure) -> float | None:
    """Return the seconds after which a retry may succeed; None if the upstream states none.

    The result is at most one year.
    """
    headers, error = failure.headers, failure.error
    date = headers.get("date", "")
    headers_in_body = {"date": date, **_get_headers(error)}
    for delay in (
        parse_retry_after(headers),
        _parse_retry_info(error),
        _parse_fields(error, date),
        parse_delay_text(failure.text, date),
        parse_retry_after(headers_in_body),
        find_reset_delay(headers),
        find_reset_delay(headers_in_body),
    ):
        if delay is not None:
            return min(delay, _MAX_DELAY)
    return None


def _parse_retry_info(error: JsonObject) -> float | None:
    """Return the delay of Google's `google.rpc.RetryInfo`, such as `26s`."""
    for detail in list_details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            return parse_duration(delay)
    message = error.get("message")
    match = _RETRY_INFO_TEXT.search(message) if isinstance(message, str) else None
    return None if match is None else parse_duration(match[1])


def _parse_fields(error: JsonObject, date: str) -> float | None:
    for fields in (error, _get_object(error, "metadata")):
        for name, factor in _DELAY_FIELDS:
            value = fields.get(name)
            delay = _parse_value(value, date)
            if delay is not None:
                # A duration such as `500ms` has its own unit.
                has_unit = isinstance(value, str) and value.strip()[-1:].isalpha()
                return delay if has_unit else delay * factor
        for name in _TIME_FIELDS:
            delay = _parse_value(fields.get(name), date)
            if delay is not None:
                return delay
    return None


def _parse_value(value: object, date: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return parse_delay(value.strip(), date)
    return parse_delay(f"{value:f}", date) if 0 <= value < _MAX_NUMBER else None


def _get_headers(error: JsonObject) -> dict[str, str]:
    """Return the headers of the provider that OpenRouter puts into the body, in lower case."""
    headers = _get_object(_get_object(error, "metadata"), "headers")
    return {name.lower(): str(value) for name, value in headers.items()}


def _get_object(holder: JsonObject, name: str) -> JsonObject:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def list_details(error: JsonObject) -> list[JsonObject]:
    """Return the objects in `details` of Google's errors."""
    details: Any = error.get("details")
    if not isinstance(details, list):
        return []
    return [detail for detail in details if isinstance(detail, dict)]
