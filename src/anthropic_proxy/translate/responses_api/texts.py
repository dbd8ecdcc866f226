"""The kinds of text in a Responses response: their location in an item, and their form in Chat
Completions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class TextKind:
    """One kind of text."""

    # type of the items that hold it
    item_type: str
    # in a complete item, the list of its parts
    parts_field: str
    # type of the parts that hold this text
    part_type: str
    # the part's field with the text
    text_field: str
    # in a delta event, the field with the index of the part
    index_field: str
    # builds a chunk's delta from item index, part index and fragment
    build_delta: Callable[[int, int, str], JsonObject]


# By the event that sends a piece of it.
TEXT_KINDS: Mapping[str, TextKind] = {
    "response.reasoning_summary_text.delta": TextKind(
        "reasoning",
        "summary",
        "summary_text",
        "text",
        "summary_index",
        lambda item, part, fragment: reasoning.build_delta(
            reasoning.build_summary_detail(item, part, fragment)
        ),
    ),
    "response.reasoning_text.delta": TextKind(
        "reasoning",
        "content",
        "reasoning_text",
        "text",
        "content_index",
        lambda item, _, fragment: reasoning.build_delta(
            reasoning.build_text_detail(item, fragment)
        ),
    ),
    "response.output_text.delta": TextKind(
        "message",
        "content",
        "output_text",
        "text",
        "content_index",
        lambda _, __, fragment: {"content": fragment},
    ),
    "response.refusal.delta": TextKind(
        "message",
        "content",
        "refusal",
        "refusal",
        "content_index",
        lambda _, __, fragment: {"refusal": fragment},
    ),
}
