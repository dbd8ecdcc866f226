"""Convert the end of a response: its status, its error and its usage."""

from typing import Any

from anthropic_proxy.translate.error_codes import find_named_status
from anthropic_proxy.translate.response.stop_reasons import parse_finish_reason
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# Usage fields of this API, with their names in Chat Completions.
_USAGE_FIELDS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
_USAGE_DETAIL_FIELDS = {
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}

# The fields with the details of a status: of the Responses API, and of the Realtime API, whose form
# gateways use too (Wei-Shaw/sub2api#3858).
_DETAIL_FIELDS = ("incomplete_details", "status_details")


# Words for the status `completed`.
_COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "finished", "done"})


def get_status(response: JsonObject) -> str:
    """Return the status of a response in the words of the API; empty if it has none."""
    status = string_or_empty(response.get("status")).lower()
    return "completed" if status in _COMPLETED else status


def find_response_error(response: JsonObject) -> Any:
    """Return the error of a response, or None."""
    return response.get("error") or get_object(response, "status_details").get("error") or None


def find_failure_error(event: JsonObject) -> Any:
    """Return the error of an event that reports the failure of a response, or None.

    Some servers put it beside the response, or send only a text.
    """
    response = get_object(event, "response")
    return (
        find_response_error(response)
        or event.get("error")
        or string_or_empty(response.get("status_details"))
        or string_or_empty(event.get("message"))
        or None
    )


def get_finish_reason(event: JsonObject, *, has_calls: bool) -> str:
    """Return the finish reason of a response from its last event."""
    response = get_object(event, "response")
    event_status = string_or_empty(event["type"]).removeprefix("response.")
    statuses = (event_status, get_status(response) or get_status(event))
    for status in reversed(statuses):
        if _is_failure(status):
            return status
    early_end = find_early_end(response)
    if early_end is not None:
        return early_end
    if "incomplete" in statuses:
        return "length"
    return "tool_calls" if has_calls else "stop"


def ends_early(finish_reason: str) -> bool:
    """Return whether a response with this finish reason may end within a call."""
    reason = parse_finish_reason(finish_reason)
    return reason is not None and (reason.is_cut or reason.failure_status is not None)


def find_early_end(response: JsonObject) -> str | None:
    """Return the reason for an early end in the details of the status, or None.

    Some servers report it with the status `completed`. Other words say nothing about the end.
    """
    for name in _DETAIL_FIELDS:
        reason = get_object(response, name).get("reason")
        if isinstance(reason, str) and ends_early(reason):
            return reason
    return None


def _is_failure(status: str) -> bool:
    """Return whether a response with this status broke off (`cancelled`, `failed`)."""
    reason = parse_finish_reason(status)
    return reason is not None and reason.failure_status is not None


def build_error_chunk(error: Any) -> JsonObject:
    """Return the chunk for an error in a response.

    Its `code` is the HTTP status for a known error, and its `type` contains the original code.
    """
    if not isinstance(error, dict):
        return {"error": {"message": string_or_empty(error), "type": "response.failed"}}
    code = error.get("code")
    names = [name for name in (code, error.get("type")) if isinstance(name, str)]
    message = string_or_empty(error.get("message"))
    status = find_named_status(names) or code
    return {"error": {**error, "message": message, "type": " ".join(names), "code": status}}


def build_finish_chunk(response: JsonObject, finish_reason: str | None) -> JsonObject:
    """Return the last chunk with the finish reason, usage and service tier."""
    chunk = build_chunk({})
    chunk["choices"][0]["finish_reason"] = finish_reason
    if isinstance(response.get("usage"), dict):
        chunk["usage"] = convert_usage(response["usage"])
    if response.get("service_tier"):
        chunk["service_tier"] = response["service_tier"]
    return chunk


def convert_usage(usage: JsonObject) -> JsonObject:
    """Convert the usage of the Responses API to that of Chat Completions."""
    converted = {chat_name: usage.get(name) for name, chat_name in _USAGE_FIELDS.items()}
    for name, chat_name in _USAGE_DETAIL_FIELDS.items():
        if isinstance(usage.get(name), dict):
            converted[chat_name] = usage[name]
    return converted


def build_chunk(delta: JsonObject) -> JsonObject:
    return {"choices": [{"index": 0, "delta": delta}]}


def get_object(payload: JsonObject, name: str) -> JsonObject:
    """Return a member that is an object, else an empty object."""
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def get_output_text(response: JsonObject) -> str:
    """Return the text of a response that has no items.

    The official SDKs have it in `output_text`.
    """
    return string_or_empty(response.get("output_text")) or string_or_empty(response.get("output"))
