"""Find the delay that an upstream requests before a retry, in headers, fields and texts."""

import re
from typing import Any

from anthropic_proxy.translate.rate_limit_headers import find_reset_delay
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.retry_after import parse_delay_text, parse_duration, parse_retry_after

# Seconds, in the error object: of the Codex backend, of Anthropic-like gateways and of LiteLLM.
_SECONDS_FIELDS = ("resets_in_seconds", "retry_after", "retry_after_seconds", "retryAfter")
# Google's RetryInfo in a text that contains the JSON of the error.
_RETRY_INFO_TEXT = re.compile(r"retryDelay\W{1,8}(\d{1,9}(?:\.\d{1,9})?s)")


def find_retry_delay(failure: UpstreamFailure) -> float | None:
    """Return the seconds after which a retry may succeed; None if the upstream states none."""
    for delay in (
        parse_retry_after(failure.headers),
        _parse_retry_info(failure.error),
        _parse_fields(failure.error),
        parse_delay_text(failure.text),
        find_reset_delay(failure.headers),
    ):
        if delay is not None:
            return delay
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


def _parse_fields(error: JsonObject) -> float | None:
    for name in _SECONDS_FIELDS:
        value = error.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
    return None


def list_details(error: JsonObject) -> list[JsonObject]:
    """Return the objects in `details` of Google's errors."""
    details: Any = error.get("details")
    if not isinstance(details, list):
        return []
    return [detail for detail in details if isinstance(detail, dict)]
