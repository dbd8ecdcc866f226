"""Signatures of tool calls, without which Gemini refuses the next turn.

In a response, a signature becomes an encrypted detail of the reasoning with the client's id of the
call. So it is stored in the `signature` of a thinking block or in a redacted block, which the
client sends with the history. If the history has no signature (the client did not request thinking,
or another server generated the call), the call gets the value that Google documents for such
histories. Only the first call of a turn requires a signature.

Source: ai.google.dev/gemini-api/docs/thought-signatures, and recordings of
`extra_content.google.thought_signature`.
"""

from typing import Any

from anthropic_proxy.translate.reasoning.fields import DETAILS, ReasoningDelta
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

_TYPE = "tool_call.signature"
_FIELD = "extra_content"
_NO_SIGNATURE = "skip_thought_signature_validator"


def parse_call_signature(fragment: JsonObject, tool_use_id: str) -> ReasoningDelta | None:
    """Return the signature of a tool call fragment as reasoning, or None."""
    extra_content = fragment.get(_FIELD)
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    if not isinstance(google, dict):
        return None
    signature = string_or_empty(google.get("thought_signature"))
    if not signature:
        return None
    detail = {"type": _TYPE, "id": tool_use_id, "data": signature}
    return ReasoningDelta(DETAILS, "", (detail,))


def restore_call_signatures(message: JsonObject, tool_use_ids: list[str]) -> JsonObject:
    """Restore the signatures of the calls of an assistant message.

    `tool_use_ids` are the client's ids of the calls, in order.
    """
    calls = message.get("tool_calls")
    restored = drop_call_signatures(message)
    if not calls:
        return restored
    details = message.get(DETAILS, [])
    call_details = [detail for detail in details if detail.get("type") == _TYPE]
    signatures_by_id = {detail.get("id"): detail.get("data") for detail in call_details}
    signatures = [signatures_by_id.get(tool_use_id) for tool_use_id in tool_use_ids]
    if not signatures[0]:
        signatures[0] = _NO_SIGNATURE
    return {**restored, "tool_calls": list(map(_set_signature, calls, signatures))}


def reset_call_signatures(message: JsonObject) -> JsonObject:
    """Set the value for histories without signatures at the first call, and remove the others."""
    if not message.get("tool_calls"):
        return message
    first, *others = (_without(call, _FIELD) for call in message["tool_calls"])
    return {**message, "tool_calls": [_set_signature(first, _NO_SIGNATURE), *others]}


def has_call_signature(message: JsonObject) -> bool:
    """Return whether a call of the message has a signature."""
    return any(_FIELD in call for call in message.get("tool_calls") or ())


def drop_call_signatures(message: JsonObject) -> JsonObject:
    """Remove the details of call signatures from an assistant message."""
    if DETAILS not in message:
        return message
    details = [detail for detail in message[DETAILS] if detail.get("type") != _TYPE]
    if details:
        return {**_without(message, DETAILS), DETAILS: details}
    return _without(message, DETAILS)


def _set_signature(call: JsonObject, signature: Any) -> JsonObject:
    if not signature:
        return call
    return {**call, _FIELD: {"google": {"thought_signature": signature}}}


def _without(value: JsonObject, key: str) -> JsonObject:
    return {name: each for name, each in value.items() if name != key}
