"""Parts that the readers of several formats of calls in text share."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tool_calls.arguments import parse_arguments
from anthropic_proxy.translate.tool_calls.offered_tools import (
    OfferedTools,
    convert_text,
    get_member_schema,
    parse_strings,
)
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class TextCall:
    name: str
    arguments: JsonObject


TextCalls = list[TextCall]


class NotACallError(ValueError):
    """The text is not a call to an offered tool."""


_BLANK = re.compile(r"\s*\Z")


def build_call(name: Any, arguments: Any, tools: OfferedTools) -> TextCall:
    """Return the call with these arguments, which may be in a JSON string.

    Raises NotACallError.
    """
    offered_name = tools.find(name) if isinstance(name, str) else None
    if offered_name is None:
        raise NotACallError
    if arguments is None or isinstance(arguments, str):
        arguments = parse_arguments(arguments or "")
    if not isinstance(arguments, dict):
        raise NotACallError
    types = tools.get_members_without_strings(offered_name)
    return TextCall(offered_name, parse_strings(arguments, types))


def build_call_of_texts(name: str, pairs: list[tuple[str, str]], tools: OfferedTools) -> TextCall:
    """Return the call with these arguments, converted to the types of the tool's schema."""
    schema = tools.get_schema(tools.find(name) or "")
    arguments = {
        key: convert_text(text, tools.get_types(get_member_schema(schema, key)))
        for key, text in pairs
    }
    return build_call(name, arguments, tools)


def skip(gap: re.Pattern[str], text: str, pos: int) -> int:
    match = gap.match(text, pos)
    return match.end() if match else pos


def iter_matches(pattern: re.Pattern[str], text: str, start: int = 0) -> Iterator[re.Match[str]]:
    """Yield consecutive matches of `pattern`.

    Raises NotACallError if there is other text between or after the matches.
    """
    pos = start
    while not _BLANK.match(text, pos):
        match = pattern.match(text, pos)
        if match is None:
            raise NotACallError
        yield match
        pos = match.end()
