"""Parts that the readers of several formats of calls in text share: calls, and JSON documents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tool_calls.json_repair import parse_arguments, repair_json
from anthropic_proxy.translate.tool_calls.json_scanner import skip
from anthropic_proxy.translate.tool_calls.offered_tools import (
    OfferedTools,
    convert_text,
    get_member_schema,
    parse_strings,
)
from anthropic_proxy.wire.json_codec import JsonObject, loads_first


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


_ARGUMENT_KEYS = ("arguments", "parameters")
# Text between JSON documents and around them: separators and Llama's end markers.
_DOCUMENT_GAP = re.compile(r"(?:[\s;,]|<\|eom_id\|>|<\|eot_id\|>)*")


def _parse_object_call(value: Any, tools: OfferedTools, *, strict: bool) -> TextCall:
    """Return the call in an object with a name and arguments.

    With `strict`, other members are not allowed. Raises NotACallError.
    """
    if not isinstance(value, dict):
        raise NotACallError
    if not strict and isinstance(value.get("function"), dict):
        # The form of Chat Completions: {"type": "function", "function": {...}}.
        value = value["function"]
    key = next((key for key in _ARGUMENT_KEYS if key in value), None)
    if strict and (key is None or len(value) != 2):
        raise NotACallError
    arguments = value[key] if key else {}
    return build_call(value.get("name"), arguments, tools)


def parse_object_calls(value: Any, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in an object, or in a list of objects."""
    entries = value if isinstance(value, list) else [value]
    return [_parse_object_call(entry, tools, strict=strict) for entry in entries]


def _parse_documents(text: str, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in a text that is a sequence of JSON documents."""
    calls: TextCalls = []
    pos = skip(_DOCUMENT_GAP, text, 0)
    while pos < len(text):
        value, pos = loads_first(text, pos)
        calls += parse_object_calls(value, tools, strict=strict)
        pos = skip(_DOCUMENT_GAP, text, pos)
    return calls


def read_json(text: str, tools: OfferedTools) -> TextCalls:
    try:
        return _parse_documents(text, tools, strict=False)
    except ValueError:
        return [_parse_object_call(repair_json(text), tools, strict=False)]


def read_documents(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, tools, strict=False)


def read_bare_documents(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, tools, strict=True)
