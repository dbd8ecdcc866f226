"""The texts of a Responses answer: where each is found in its item, and what it is in Chat Completions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class TextKind:
    """One kind of text.

    kind: of the items that have it. parts, type, name: in an item that is told whole, the list of its parts, the type of
    those that have this text, and their field with it. index: in an event with a piece, the field that tells the part.
    delta: the delta of a chunk, from the item's place, the part's number and the piece.
    """

    item_type: str
    parts_field: str
    part_type: str
    text_field: str
    index_field: str
    build_delta: Callable[[int, int, str], JsonObject]


# By the event that sends a piece of it.
TEXT_KINDS: Mapping[str, TextKind] = {
    "response.reasoning_summary_text.delta": TextKind(
        "reasoning",
        "summary",
        "summary_text",
        "text",
        "summary_index",
        lambda place, part, piece: reasoning.build_delta(
            reasoning.build_summary_detail(place, part, piece)
        ),
    ),
    "response.reasoning_text.delta": TextKind(
        "reasoning",
        "content",
        "reasoning_text",
        "text",
        "content_index",
        lambda place, _, piece: reasoning.build_delta(reasoning.build_text_detail(place, piece)),
    ),
    "response.output_text.delta": TextKind(
        "message",
        "content",
        "output_text",
        "text",
        "content_index",
        lambda _, __, piece: {"content": piece},
    ),
    "response.refusal.delta": TextKind(
        "message",
        "content",
        "refusal",
        "refusal",
        "content_index",
        lambda _, __, piece: {"refusal": piece},
    ),
}
