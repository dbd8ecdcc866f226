"""Signatures of tool calls (Gemini): each call may come with one, and the next turn is refused without it.

On the way to the client a signature becomes an encrypted detail of the reasoning, which names the call by the client's id;
so it travels in the `signature` of a thinking block, or in a redacted one, and comes back with the history. Where it did
not (the client asked for no thinking, or the call was another server's) the call gets the value that Google documents
for such histories. Only the first call of a turn has to have one.

Source: ai.google.dev/gemini-api/docs/thought-signatures; recorded: `extra_content.google.thought_signature`.
"""

from typing import Any

from anthropic_proxy.translate.reasoning.fields import DETAILS, ReasoningDelta
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

_TYPE = "tool_call.signature"
_FIELD = "extra_content"
_NO_SIGNATURE = "skip_thought_signature_validator"


def parse_call_signature(fragment: JsonObject, tool_use_id: str) -> ReasoningDelta | None:
    """Return the signature of a tool call fragment as reasoning; None without one."""
    google = _object_or_empty(_object_or_empty(fragment.get(_FIELD)).get("google"))
    signature = string_or_empty(google.get("thought_signature"))
    detail = {"type": _TYPE, "id": tool_use_id, "data": signature}
    return ReasoningDelta(DETAILS, "", (detail,)) if signature else None


def restore_call_signatures(message: JsonObject, tool_use_ids: list[str]) -> JsonObject:
    """Restore the signatures of an assistant message's calls. `tool_use_ids` are the ids of its calls, in order."""
    calls = message.get("tool_calls")
    details = message.get(DETAILS, [])
    signatures_by_id = {
        detail.get("id"): detail.get("data") for detail in details if detail.get("type") == _TYPE
    }
    signatures = [signatures_by_id.get(tool_use_id) for tool_use_id in tool_use_ids]
    if calls and not signatures[0]:
        signatures[0] = _NO_SIGNATURE
    return {
        **drop_call_signatures(message),
        **({"tool_calls": list(map(_set_signature, calls, signatures))} if calls else {}),
    }


def reset_call_signatures(message: JsonObject) -> JsonObject:
    """Give the first call the value for histories without signatures, and remove the signatures of the others."""
    if not message.get("tool_calls"):
        return message
    first, *others = (
        {name: each for name, each in call.items() if name != _FIELD}
        for call in message["tool_calls"]
    )
    return {**message, "tool_calls": [_set_signature(first, _NO_SIGNATURE), *others]}


def has_call_signature(message: JsonObject) -> bool:
    """Return whether a call of the message has a signature."""
    return any(_FIELD in call for call in message.get("tool_calls") or ())


def drop_call_signatures(message: JsonObject) -> JsonObject:
    """Remove from an assistant message the details that only `restore_call_signatures` uses."""
    if DETAILS not in message:
        return message
    details = [detail for detail in message[DETAILS] if detail.get("type") != _TYPE]
    rest = {name: value for name, value in message.items() if name != DETAILS}
    return {**rest, DETAILS: details} if details else rest


def _set_signature(call: JsonObject, signature: Any) -> JsonObject:
    return {**call, _FIELD: {"google": {"thought_signature": signature}}} if signature else call


def _object_or_empty(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
