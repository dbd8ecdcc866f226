"""Split text into text and tool calls."""

from typing import Any

from anthropic_proxy.translate.tool_calls.text_calls import TextCall
from anthropic_proxy.translate.tool_calls.text_parser import TextCallParser
from tests.support.splits import random_pieces

TOOLS: dict[str, Any] = {
    "get_weather": {
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "raw": {"anyOf": [{"type": "object"}]},
        }
    },
    "now": {},
}
PARIS = ("get_weather", {"city": "Paris"})
ROME = ("get_weather", {"city": "Rome"})
NOW: tuple[str, dict[str, Any]] = ("now", {})


def split(
    pieces: list[str], *, truncated: bool = False, tools: dict[str, Any] | None = None
) -> list[Any]:
    """Return the parts: neighbouring texts joined, and calls as (name, arguments)."""
    calls = TextCallParser(TOOLS if tools is None else tools)
    parts: list[str | TextCall] = []
    for piece in pieces:
        parts += calls.feed(piece)
    parts += calls.close(truncated=truncated)
    out: list[Any] = []
    for part in parts:
        assert part, "an empty text"
        if isinstance(part, TextCall):
            out.append((part.name, part.arguments))
        elif out and isinstance(out[-1], str):
            out[-1] += part
        else:
            out.append(part)
    return out


def cut_in_all_ways(text: str) -> list[list[str]]:
    """Return the text whole, character by character, and in random pieces."""
    return [[text], list(text), *(random_pieces(text, seed) for seed in range(20))]
