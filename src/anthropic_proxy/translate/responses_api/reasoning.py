"""Convert reasoning items to `reasoning_details` and back.

The client receives the details in signatures, and sends them with the next request. An item becomes
one detail for each part of its summary, and one detail for its encrypted content. The latter
contains the item's id, because the upstream does not store items. OpenAI requires each reasoning
item directly before its output item. A Chat Completions message has no such order, so the detail
also contains the number of preceding outputs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# OpenRouter's name of this format. OpenAI cannot read the encrypted parts of other formats.
REASONING_FORMAT = "openai-responses-v1"

_SUMMARY = "reasoning.summary"
_TEXT = "reasoning.text"
_ENCRYPTED = "reasoning.encrypted"

# In characters. OpenAI refuses longer ids ("string too long. Expected a string with maximum length
# 64"), also those of other servers (GitHub Copilot: 416). The encrypted content is sufficient.
_MAX_ID_LENGTH = 64

# Separates the parts of reasoning. It is at the beginning of a part's text, so the texts can be
# joined directly.
SEPARATOR = "\n\n"


@dataclass(frozen=True)
class ReasoningItem:
    """A reasoning item for the next request."""

    item: JsonObject
    # number of outputs before it: the calls, and one for text
    preceding_outputs: int
    # `phase` of the message after it
    phase: str


def build_summary_detail(index: int, summary_index: Any, text: str) -> JsonObject:
    """Return the detail for a fragment of a summary part."""
    return {
        "type": _SUMMARY,
        "summary": text,
        "format": REASONING_FORMAT,
        "index": index,
        "summary_index": summary_index,
    }


def build_text_detail(index: int, text: str) -> JsonObject:
    """Return the detail for a fragment of reasoning text, which is not sent back."""
    return {"type": _TEXT, "text": text, "format": REASONING_FORMAT, "index": index}


def build_encrypted_detail(index: int, item: JsonObject, preceding_outputs: int) -> JsonObject:
    """Return the detail from which the item can be restored."""
    detail: JsonObject = {
        "type": _ENCRYPTED,
        "data": item["encrypted_content"],
        "format": REASONING_FORMAT,
        "index": index,
    }
    if _is_accepted_id(item.get("id")):
        detail["id"] = item["id"]
    detail["said_before"] = preceding_outputs
    return detail


def build_phase_detail(index: int, phase: str) -> JsonObject:
    """Return the detail that adds the next message's `phase` to the encrypted detail."""
    return {"type": _ENCRYPTED, "index": index, "phase": phase}


def build_delta(detail: JsonObject) -> JsonObject:
    """Return a chunk's delta with one detail."""
    return {DETAILS: [detail]}


def parse_reasoning_items(details: Any) -> list[ReasoningItem]:
    """Return the reasoning items of an assistant message's `reasoning_details`, in order."""
    items: list[ReasoningItem] = []
    summary: list[JsonObject] = []
    index: Any = None
    for detail in _filter_by_format(details):
        if detail.get("index") != index:
            index, summary = detail.get("index"), []
        if detail.get("type") == _SUMMARY and string_or_empty(detail.get("summary")):
            text = detail["summary"].removeprefix(SEPARATOR)
            summary.append({"type": "summary_text", "text": text})
        elif detail.get("type") == _ENCRYPTED and string_or_empty(detail.get("data")):
            items.append(_build_reasoning_item(detail, summary))
            summary = []
    return items


def _build_reasoning_item(detail: JsonObject, summary: list[JsonObject]) -> ReasoningItem:
    """Return the item for an encrypted detail and the summary before it."""
    item: JsonObject = {
        "type": "reasoning",
        "summary": summary,
        "encrypted_content": detail["data"],
    }
    if _is_accepted_id(detail.get("id")):
        item = {"id": detail["id"], **item}
    preceding_outputs = detail.get("said_before")
    if not isinstance(preceding_outputs, int):
        preceding_outputs = 0
    return ReasoningItem(item, preceding_outputs, string_or_empty(detail.get("phase")))


def _is_accepted_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID_LENGTH


def _filter_by_format(details: Any) -> Iterable[JsonObject]:
    """Yield the details in this API's format."""
    if not isinstance(details, list):
        return
    for detail in details:
        if isinstance(detail, dict) and detail.get("format") == REASONING_FORMAT:
            yield detail
