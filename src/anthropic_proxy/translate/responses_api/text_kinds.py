"""The kinds of text in the items of a response, and the events and parts that contain them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty


@dataclass(frozen=True)
class TextKind:
    """A kind of text: its location in an item, and its form in Chat Completions."""

    # type of the items that contain it
    item_type: str
    # field of a complete item with the list of parts
    parts_field: str
    # type of the parts
    part_type: str
    # field of a part with the text
    text_field: str
    # field of a delta event with the index of the part
    index_field: str
    # builds a chunk's delta from item index, part index and fragment
    build_delta: Callable[[int, int, str], JsonObject] = field(repr=False)
    # other types of the parts; empty for a part without a type
    other_part_types: tuple[str, ...] = ()

    def get_part_text(self, part: Any) -> str:
        """Return the text of a part of an item; empty for a part of another kind."""
        if not isinstance(part, dict):
            return ""
        part_type = string_or_empty(part.get("type"))
        if part_type != self.part_type and part_type not in self.other_part_types:
            return ""
        return string_or_empty(part.get(self.text_field))

    def list_part_texts(self, item: JsonObject) -> list[str]:
        """Return the texts of this kind in a complete item of its type, by the index of the part.

        Some servers send a string instead of a part or of the list of parts.
        """
        parts = item.get(self.parts_field)
        if isinstance(parts, str):
            parts = [parts]
        if not isinstance(parts, list):
            return []
        takes_strings = "" in self.other_part_types
        texts = []
        for part in parts:
            is_string = takes_strings and isinstance(part, str)
            texts.append(part if is_string else self.get_part_text(part))
        return texts


def _build_summary_delta(item_index: int, part_index: int, fragment: str) -> JsonObject:
    detail = reasoning.build_summary_detail(item_index, part_index, fragment)
    return reasoning.build_delta(detail)


def _build_reasoning_delta(item_index: int, _: int, fragment: str) -> JsonObject:
    return reasoning.build_delta(reasoning.build_text_detail(item_index, fragment))


def _build_text_delta(_: int, __: int, fragment: str) -> JsonObject:
    return {"content": fragment}


def _build_refusal_delta(_: int, __: int, fragment: str) -> JsonObject:
    return {"refusal": fragment}


# Chat Completions and gateways that convert it have parts of the type `text`.
_PLAIN_PARTS = ("text", "")

_SUMMARY = TextKind(
    item_type="reasoning",
    parts_field="summary",
    part_type="summary_text",
    text_field="text",
    index_field="summary_index",
    build_delta=_build_summary_delta,
    other_part_types=_PLAIN_PARTS,
)
_REASONING = TextKind(
    item_type="reasoning",
    parts_field="content",
    part_type="reasoning_text",
    text_field="text",
    index_field="content_index",
    build_delta=_build_reasoning_delta,
    other_part_types=_PLAIN_PARTS,
)
_TEXT = TextKind(
    item_type="message",
    parts_field="content",
    part_type="output_text",
    text_field="text",
    index_field="content_index",
    build_delta=_build_text_delta,
    other_part_types=_PLAIN_PARTS,
)
_REFUSAL = TextKind(
    item_type="message",
    parts_field="content",
    part_type="refusal",
    text_field="refusal",
    index_field="content_index",
    build_delta=_build_refusal_delta,
)
# Models that speak: the text is the transcript of their audio.
_TRANSCRIPT = TextKind(
    item_type="message",
    parts_field="content",
    part_type="output_audio",
    text_field="transcript",
    index_field="content_index",
    build_delta=_build_text_delta,
    other_part_types=("audio",),
)
TEXT_KINDS = (_SUMMARY, _REASONING, _TEXT, _REFUSAL, _TRANSCRIPT)
# The kinds in the parts of `response.content_part` events.
CONTENT_KINDS = (_REASONING, _TEXT, _REFUSAL, _TRANSCRIPT)

# By the type of the event with a fragment of the text. The documented events of the Responses API
# come first; `response.text` and two transcripts are of the Realtime API, of which gateways send
# events.
DELTA_KINDS: Mapping[str, TextKind] = {
    "response.reasoning_summary_text.delta": _SUMMARY,
    "response.reasoning_text.delta": _REASONING,
    "response.output_text.delta": _TEXT,
    "response.refusal.delta": _REFUSAL,
    "response.audio.transcript.delta": _TRANSCRIPT,
    "response.text.delta": _TEXT,
    "response.audio_transcript.delta": _TRANSCRIPT,
    "response.output_audio_transcript.delta": _TRANSCRIPT,
}
# By the type of the event with the complete text.
COMPLETE_KINDS: Mapping[str, TextKind] = {
    event_type.replace(".delta", ".done"): kind for event_type, kind in DELTA_KINDS.items()
}
