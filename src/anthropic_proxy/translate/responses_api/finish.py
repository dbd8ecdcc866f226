"""The end of a Responses response in Chat Completions' form: finish reason and usage, or an error."""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# By the reason of `incomplete_details`; all other reasons become `length`.
_FINISH_REASONS = {"content_filter": "content_filter"}

# HTTP status by code or type of an error within a response; all others are 500.
_STATUS_BY_CODE = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "data_residency_mismatch": 400,
    "bio_policy": 400,
    "cyber_policy": 400,
    "misalignment_policy_violation": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_base64_image": 400,
    "invalid_image_url": 400,
    "invalid_image_mode": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "image_parse_error": 400,
    "image_content_policy_violation": 400,
    "image_file_too_large": 400,
    "image_file_not_found": 400,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
}


def build_finish_chunk(response: JsonObject, *, is_incomplete: bool, has_calls: bool) -> JsonObject:
    """Return the last chunk, with finish reason, usage and service tier."""
    reason = (
        _incomplete_reason(response) if is_incomplete else "tool_calls" if has_calls else "stop"
    )
    chunk: JsonObject = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    if isinstance(response.get("usage"), dict):
        chunk["usage"] = _convert_usage(response["usage"])
    if response.get("service_tier"):
        chunk["service_tier"] = response["service_tier"]
    return chunk


def build_error_chunk(error: Any) -> JsonObject:
    """Return the chunk for an error within a response.

    Its `code` is an HTTP status where one is known, and its `type` holds the code that it replaces.
    """
    if not isinstance(error, dict):
        return {"error": {"message": string_or_empty(error), "type": "response.failed"}}
    names = [each for each in (error.get("code"), error.get("type")) if isinstance(each, str)]
    status = next(
        (_STATUS_BY_CODE[name] for name in names if name in _STATUS_BY_CODE), error.get("code")
    )
    return {
        "error": {
            "message": string_or_empty(error.get("message")),
            "type": " ".join(names),
            "code": status,
        }
    }


def _incomplete_reason(response: JsonObject) -> str:
    incomplete = response.get("incomplete_details")
    return (
        _FINISH_REASONS.get(string_or_empty(incomplete.get("reason")), "length")
        if isinstance(incomplete, dict)
        else "length"
    )


def _convert_usage(usage: JsonObject) -> JsonObject:
    counts = {new: usage.get(old) for old, new in _USAGE_FIELDS.items()}
    details = {
        new: usage[old]
        for old, new in _USAGE_DETAIL_FIELDS.items()
        if isinstance(usage.get(old), dict)
    }
    return {**counts, **details}


_USAGE_FIELDS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
_USAGE_DETAIL_FIELDS = {
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}
