"""Formats in which models write tool calls as text.

A table has one row for each format, with its markers and its reader. The rows cite the chat
template by its repository on Hugging Face, or the vendor's documentation. Servers with a parser for
their model convert such calls; other servers forward them as text. A text is a call only if it has
the name of an offered tool. If one of several calls within a pair of markers is invalid, all of
them are text.

All patterns match or fail in linear time: adjacent repetitions have no characters in common.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anthropic_proxy.translate.tool_calls.arguments import parse_arguments
from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_names import NamePrefixes
from anthropic_proxy.wire.json_codec import JsonObject, loads, loads_first, repair_surrogates

# The schemas of the parameters of the offered tools, by the upstream's names.
ToolSchemas = Mapping[str, JsonObject]

# A placeholder for the name of an offered tool. The next character is never part of a name.
_NAME = "NAME"


@dataclass(frozen=True)
class TextCall:
    name: str
    arguments: JsonObject


TextCalls = list[TextCall]


class OfferedTools:
    """The offered tools, with caches for all calls in the text of a response."""

    def __init__(self, tools: ToolSchemas) -> None:
        self._tools = tools
        self._types: dict[tuple[str, str], frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    @cached_property
    def prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._tools)

    def get_types(self, name: str, parameter: str) -> frozenset[str]:
        """Return the JSON types of a parameter in the tool's schema."""
        key = name, parameter
        if key not in self._types:
            properties = self._tools.get(name, {}).get("properties")
            schema = properties.get(parameter) if isinstance(properties, dict) else None
            self._types[key] = frozenset(_collect_types(schema))
        return self._types[key]


def _collect_types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type")
    if not isinstance(declared, list):
        declared = [declared]
    types = {each for each in declared if isinstance(each, str)}
    for keyword in ("anyOf", "oneOf"):
        alternatives = schema.get(keyword)
        if isinstance(alternatives, list):
            for alternative in alternatives:
                types |= _collect_types(alternative)
    return types


@dataclass(frozen=True)
class TextCallFormat:
    """A format of calls."""

    # marker before the calls
    opener: str
    # marker after the calls; None if they extend to the end of the response
    end: str | None
    # possible texts after the opener, without white space, that are long enough to expect a call to
    # the tool NAME
    openings: tuple[str, ...]
    # returns the calls between the markers; raises ValueError if some are not calls to offered
    # tools
    read: Callable[[str, OfferedTools], TextCalls]
    # whether such calls are accepted only at the end of the response
    must_be_last: bool = False

    @cached_property
    def split_openings(self) -> tuple[tuple[str, str], ...]:
        """The texts before and after NAME in each opening."""
        parts = (opening.partition(_NAME) for opening in self.openings)
        return tuple((before, after) for before, _, after in parts)


def starts_call(call_format: TextCallFormat, text: str, tools: OfferedTools) -> bool | None:
    """Return whether `text` is the beginning of a call; None if more text is needed.

    `text` is the text after the opener, without white space.
    """
    is_undecided = False
    for before, after in call_format.split_openings:
        if text.startswith(before):
            is_call = not after or _starts_with_tool(text[len(before) :], after, tools)
            if is_call:
                return True
            if is_call is None:
                is_undecided = True
        elif before.startswith(text):
            is_undecided = True
    return None if is_undecided else False


def _starts_with_tool(text: str, after: str, tools: OfferedTools) -> bool | None:
    """Return whether `text` starts with a tool's name and `after`; None if it is too short."""
    name, separator, _ = text.partition(after[0])
    if not separator:
        return None if tools.prefixes.any_starts_with(name) else False
    if name not in tools:
        return False
    rest = text[len(name) :]
    if len(rest) < len(after) and after.startswith(rest):
        return None
    return rest.startswith(after)


class _NotACallError(ValueError):
    """The text is not a call to an offered tool."""


_ARGUMENT_KEYS = ("arguments", "parameters")
_BLANK = re.compile(r"\s*\Z")
# Text between JSON documents and around them: separators and Llama's end markers.
_DOCUMENT_GAP = re.compile(r"(?:[\s;,]|<\|eom_id\|>|<\|eot_id\|>)*")


def _build_call(name: Any, arguments: Any, tools: OfferedTools) -> TextCall:
    if not isinstance(name, str) or name not in tools:
        raise _NotACallError
    if arguments is None or isinstance(arguments, str):
        arguments = parse_arguments(arguments or "")
    if not isinstance(arguments, dict):
        raise _NotACallError
    return TextCall(name, arguments)


def _parse_object_call(value: Any, tools: OfferedTools, *, strict: bool) -> TextCall:
    """Return the call in an object with a name and arguments.

    With `strict`, other members are not allowed. Raises _NotACallError.
    """
    if not isinstance(value, dict):
        raise _NotACallError
    if not strict and isinstance(value.get("function"), dict):
        # The form of Chat Completions: {"type": "function", "function": {...}}.
        value = value["function"]
    key = next((key for key in _ARGUMENT_KEYS if key in value), None)
    if strict and (key is None or len(value) != 2):
        raise _NotACallError
    arguments = value[key] if key else {}
    return _build_call(value.get("name"), arguments, tools)


def _parse_object_calls(value: Any, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in an object, or in a list of objects."""
    entries = value if isinstance(value, list) else [value]
    return [_parse_object_call(entry, tools, strict=strict) for entry in entries]


def _parse_documents(text: str, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in a text that is a sequence of JSON documents."""
    calls: TextCalls = []
    pos = _skip(_DOCUMENT_GAP, text, 0)
    while pos < len(text):
        value, pos = loads_first(text, pos)
        calls += _parse_object_calls(value, tools, strict=strict)
        pos = _skip(_DOCUMENT_GAP, text, pos)
    return calls


def _skip(gap: re.Pattern[str], text: str, pos: int) -> int:
    match = gap.match(text, pos)
    return match.end() if match else pos


def _iter_matches(pattern: re.Pattern[str], text: str, start: int = 0) -> Iterator[re.Match[str]]:
    """Yield consecutive matches of `pattern`.

    Raises _NotACallError if there is other text between or after the matches.
    """
    pos = start
    while not _BLANK.match(text, pos):
        match = pattern.match(text, pos)
        if match is None:
            raise _NotACallError
        yield match
        pos = match.end()


_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def _read_tagged(body: str, tools: OfferedTools) -> TextCalls:
    inner = body.strip()
    if inner.startswith(("{", "[")):
        # Hermes and Qwen
        return _read_json(inner, tools)
    if inner.startswith("<function="):
        # Qwen3-Coder
        matches = _iter_matches(_FUNCTION, inner)
        return [_parse_function(match[1], match[2], tools) for match in matches]
    return _read_glm(inner, tools)


def _read_json(text: str, tools: OfferedTools) -> TextCalls:
    try:
        return _parse_documents(text, tools, strict=False)
    except ValueError:
        return [_parse_object_call(repair_json(text), tools, strict=False)]


def _parse_function(name: str, inner: str, tools: OfferedTools) -> TextCall:
    name = name.strip()
    if inner.lstrip().startswith("{"):
        return _build_call(name, inner, tools)
    pairs = [(match[1].strip(), match[2]) for match in _iter_matches(_PARAMETER, inner)]
    return _build_call(name, _convert_arguments(name, pairs, tools), tools)


def _read_function(body: str, tools: OfferedTools) -> TextCalls:
    name, _, inner = body.partition(">")
    return [_parse_function(name, inner, tools)]


_GLM_ARGUMENT = re.compile(
    r"\s*<arg_key>([^<]*)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL
)
_GLM_NAME = re.compile(r"\s*([^\s<]+)")


def _read_glm(body: str, tools: OfferedTools) -> TextCalls:
    name_match = _GLM_NAME.match(body)
    if name_match is None:
        raise _NotACallError
    name = name_match[1]
    matches = _iter_matches(_GLM_ARGUMENT, body, name_match.end())
    pairs = [(match[1].strip(), match[2]) for match in matches]
    return [_build_call(name, _convert_arguments(name, pairs, tools), tools)]


_PYTHON_LITERALS = {"True": True, "False": False, "None": None}
_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _convert_arguments(name: str, pairs: list[tuple[str, str]], tools: OfferedTools) -> JsonObject:
    """Convert plain text to the types of the tool's schema, or to strings without types."""
    return {key: _convert_value(text, tools.get_types(name, key)) for key, text in pairs}


def _convert_value(text: str, types: frozenset[str]) -> Any:
    if not types or "string" in types:
        return text
    value = _parse_value(text)
    for each in types:
        if each in _TYPE_CHECKS and _TYPE_CHECKS[each](value):
            return value
    return text


def _parse_value(text: str) -> Any:
    literal = text.strip()
    if literal in _PYTHON_LITERALS:
        return _PYTHON_LITERALS[literal]
    try:
        return loads(text, allow_nan=False)
    except ValueError:
        return repair_json(text)


def _read_llama(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, tools, strict=False)


_MISTRAL_NAME = re.compile(r"([^\[{\s]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_MISTRAL_GAP = re.compile(r"(?:[\s,]|\[TOOL_CALLS\]|</s>)*")


def _read_mistral(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    pos = _skip(_MISTRAL_GAP, body, 0)
    while pos < len(body):
        name_match = _MISTRAL_NAME.match(body, pos)
        if name_match is None:
            value, pos = loads_first(body, pos)
            calls += _parse_object_calls(value, tools, strict=False)
        else:
            value, pos = loads_first(body, name_match.end())
            calls.append(_build_call(name_match[1], value, tools))
        pos = _skip(_MISTRAL_GAP, body, pos)
    return calls


_DEEPSEEK = re.compile(
    r"\s*+<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?\s*+([^\s<]++)\s*+(?:<｜tool▁sep｜>)?\s*+"
    r"(?:```(?:json)?\s*+)?(\{.*?)<｜tool▁call▁end｜>",
    re.DOTALL,
)


def _read_deepseek(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    for match in _iter_matches(_DEEPSEEK, body):
        arguments = match[2].rstrip().removesuffix("```")
        calls.append(_build_call(match[1], arguments, tools))
    return calls


_KIMI = re.compile(
    r"\s*<\|tool_call_begin\|>\s*(?:functions\.)?([^\s<:]+)(?::\d+)?\s*"
    r"<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>",
    re.DOTALL,
)


def _read_kimi(body: str, tools: OfferedTools) -> TextCalls:
    return [_build_call(match[1], match[2], tools) for match in _iter_matches(_KIMI, body)]


def _read_bare(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, tools, strict=True)


_ARGUMENT_MEMBERS = (
    '"arguments":{',
    '"arguments":"',
    '"arguments":null',
    '"parameters":{',
    '"parameters":"',
    '"parameters":null',
)
# With a name, the opening extends to the arguments: many JSON documents start with a name.
_CALL_MEMBERS = (
    *_ARGUMENT_MEMBERS,
    *(f'"name":"{_NAME}",{member}' for member in _ARGUMENT_MEMBERS),
)
_JSON_OPENINGS = (
    *(f"{{{member}" for member in _CALL_MEMBERS),
    *(f"[{{{member}" for member in _CALL_MEMBERS),
)

# Llama 3.1 and 3.2 without the python tag, and models without a specific format that imitate the
# API's. meta-llama/Llama-3.2-3B-Instruct
BARE_FORMAT = TextCallFormat("", None, _JSON_OPENINGS, _read_bare)

# Models without a specific format that write calls as code blocks.
FENCE_FORMAT = TextCallFormat("```json", "```", _JSON_OPENINGS, _read_bare, must_be_last=True)

FORMATS = (
    # Hermes 2 Pro and Qwen 2.5 (JSON), Qwen3-Coder (tags of functions and parameters), GLM 4.5
    # (name, then keys and values in tags).
    # NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct,
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, zai-org/GLM-4.5
    TextCallFormat(
        "<tool_call>",
        "</tool_call>",
        ("{", "[{", "<function=NAME>", "NAME<arg_key>", "NAME</tool_call>"),
        _read_tagged,
    ),
    # Qwen3-Coder without the outer tag, and custom tools of Llama 3.1 with JSON in the tag.
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, Meta's prompt format page for Llama 3.1
    TextCallFormat(
        "<function=",
        "</function>",
        ("NAME>{", "NAME><parameter=", "NAME></function>"),
        _read_function,
    ),
    # Llama 3.1. meta-llama/Llama-3.1-8B-Instruct
    TextCallFormat("<|python_tag|>", None, ("{",), _read_llama),
    # Mistral: a list of objects; newer models: `name[CALL_ID]id[ARGS]{...}` with a marker per call.
    # mistralai/Mistral-7B-Instruct-v0.3, mistralai/Mistral-Small-3.2-24B-Instruct-2506
    TextCallFormat(
        "[TOOL_CALLS]", None, ("[{", "NAME{", "NAME[ARGS]", "NAME[CALL_ID]"), _read_mistral
    ),
    # DeepSeek: with a type and a code fence (V3, R1), or without both (V3.1).
    # deepseek-ai/DeepSeek-V3, deepseek-ai/DeepSeek-V3.1
    TextCallFormat(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        (
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME`",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME{",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME<",
            "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
        ),
        _read_deepseek,
    ),
    # Kimi K2. moonshotai/Kimi-K2-Instruct
    TextCallFormat(
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        (
            "<|tool_call_begin|>functions.NAME:",
            "<|tool_call_begin|>NAME:",
            "<|tool_call_begin|>NAME<|tool_call_argument_begin|>",
        ),
        _read_kimi,
    ),
    FENCE_FORMAT,
)


def read_calls(call_format: TextCallFormat, body: str, tools: OfferedTools) -> TextCalls:
    """Return the calls in `body`, or none if it is other text."""
    try:
        return call_format.read(repair_surrogates(body), tools)
    except ValueError:
        return []
