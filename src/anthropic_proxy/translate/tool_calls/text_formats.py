"""The formats in which models write tool calls as text, as rows of a table: markers, and how to read what they enclose.

Each row cites the chat template that it comes from, by its repository on Hugging Face or the vendor's documentation. A
server that has the parser for its model reads such calls itself; one that does not passes them on. A text is a call only
when its name is one of the offered tools; several calls within one pair of markers are all calls, or all text.

All patterns fail or match in linear time: neighbouring repetitions exclude one another's characters.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anthropic_proxy.translate.tool_calls.arguments import parse_arguments
from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_names import NamePrefixes
from anthropic_proxy.wire.json_codec import JsonObject, loads, loads_first

# The offered tools by the names that the upstream knows, with the schemas of their parameters.
ToolSchemas = Mapping[str, JsonObject]

# In a row: the name of an offered tool. A character that no name has follows it.
_NAME = "NAME"


@dataclass(frozen=True)
class TextCall:
    name: str
    arguments: JsonObject


TextCalls = list[TextCall]


class OfferedTools:
    """The tools that a call can be for, prepared once for all calls in the text of a response."""

    def __init__(self, tools: ToolSchemas) -> None:
        self._tools = tools
        self._types: dict[tuple[str, str], frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __bool__(self) -> bool:
        return bool(self._tools)

    @cached_property
    def prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._tools)

    def get_types(self, name: str, parameter: str) -> frozenset[str]:
        """Return the JSON types that the tool's schema allows for a parameter; none where it does not say."""
        key = name, parameter
        if key not in self._types:
            properties = self._tools.get(name, {}).get("properties")
            schema = properties.get(parameter) if isinstance(properties, dict) else None
            self._types[key] = frozenset(_collect_types(schema))
        return self._types[key]


@dataclass(frozen=True)
class TextCallFormat:
    """One format."""

    # The marker that begins it.
    opener: str
    # The marker that ends it; None when it extends to the end of the response.
    end: str | None
    # What may follow the opener, without white space, up to where a call of the tool NAME is certain enough to hold the
    # text back.
    openings: tuple[str, ...]
    # Returns the calls between the markers, none when they are not calls of offered tools. Raises ValueError for any other
    # text.
    read: Callable[[str, OfferedTools], TextCalls]
    # Whether it counts only at the end of the response.
    must_be_last: bool = False

    @cached_property
    def split_openings(self) -> tuple[tuple[str, str], ...]:
        """What precedes and what follows NAME in each opening; nothing follows where there is no NAME."""
        parts = (opening.partition(_NAME) for opening in self.openings)
        return tuple((before, after) for before, _, after in parts)


def starts_call(call_format: TextCallFormat, text: str, tools: OfferedTools) -> bool | None:
    """Return whether `text`, white space left out, starts a call behind the opener; None while it may still become one."""
    is_undecided = False
    for before, after in call_format.split_openings:
        if text[: len(before)] != before[: len(text)]:
            continue
        starts = _starts_like(before, after, text, tools)
        if starts:
            return True
        is_undecided |= starts is None
    return None if is_undecided else False


def _starts_like(before: str, after: str, text: str, tools: OfferedTools) -> bool | None:
    """As above, for one opening; `text` and `before` agree as far as both go."""
    if len(text) < len(before):
        return None
    if not after:
        return True
    name, terminator, _ = text[len(before) :].partition(after[0])
    if not terminator:
        return None if tools.prefixes.any_starts_with(name) else False
    rest = text[len(before) + len(name) :]
    if name not in tools or rest[: len(after)] != after[: len(rest)]:
        return False
    return True if len(rest) >= len(after) else None


class _NotACallError(ValueError):
    """It is text after all."""


_ARGUMENT_KEYS = ("arguments", "parameters")
_BLANK = re.compile(r"\s*\Z")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_GLM_ARGUMENT = re.compile(
    r"\s*<arg_key>([^<]*)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL
)
_GLM_NAME = re.compile(r"\s*([^\s<]+)")
_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_MISTRAL_NAME = re.compile(r"([^\[{\s]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_LLAMA_GAP = re.compile(r"(?:[\s;,]|<\|eom_id\|>|<\|eot_id\|>)*")
_MISTRAL_GAP = re.compile(r"(?:[\s,]|\[TOOL_CALLS\]|</s>)*")
_DEEPSEEK = re.compile(
    r"\s*+<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?\s*+([^\s<]++)\s*+(?:<｜tool▁sep｜>)?\s*+"
    r"(?:```(?:json)?\s*+)?(\{.*?)<｜tool▁call▁end｜>",
    re.DOTALL,
)
_KIMI = re.compile(
    r"\s*<\|tool_call_begin\|>\s*(?:functions\.)?([^\s<:]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>",
    re.DOTALL,
)


def _build_call(name: str, arguments: Any, tools: OfferedTools) -> TextCall:
    if arguments is None or isinstance(arguments, str):
        arguments = parse_arguments(arguments or "")
    if name not in tools or not isinstance(arguments, dict):
        raise _NotACallError
    return TextCall(name, arguments)


def _parse_object_call(value: Any, tools: OfferedTools, *, strict: bool) -> TextCall:
    """Return the call of an object with name and arguments; `strict` allows no other members."""
    if not isinstance(value, dict):
        raise _NotACallError
    value = value["function"] if isinstance(value.get("function"), dict) and not strict else value
    key = next((argument_key for argument_key in _ARGUMENT_KEYS if argument_key in value), None)
    if not isinstance(value.get("name"), str) or (strict and (key is None or len(value) != 2)):
        raise _NotACallError
    return _build_call(value["name"], value[key] if key else {}, tools)


def _parse_object_calls(value: Any, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """The calls of an object, or of a list of them."""
    return [
        _parse_object_call(entry, tools, strict=strict)
        for entry in (value if isinstance(value, list) else [value])
    ]


def _parse_documents(
    text: str, gap: re.Pattern[str], tools: OfferedTools, *, strict: bool
) -> TextCalls:
    calls: TextCalls = []
    pos = _skip(gap, text, 0)
    while pos < len(text):
        value, pos = loads_first(text, pos)
        calls += _parse_object_calls(value, tools, strict=strict)
        pos = _skip(gap, text, pos)
    return calls


def _skip(gap: re.Pattern[str], text: str, pos: int) -> int:
    match = gap.match(text, pos)
    return match.end() if match else pos


def _iter_matches(pattern: re.Pattern[str], text: str, start: int = 0) -> Iterator[re.Match[str]]:
    """The matches of `pattern`, one behind the other to the end of the text; anything else is no call."""
    pos = start
    while not _BLANK.match(text, pos):
        match = pattern.match(text, pos)
        if match is None:
            raise _NotACallError
        yield match
        pos = match.end()


def _read_tagged(body: str, tools: OfferedTools) -> TextCalls:
    """Hermes and Qwen: JSON. Qwen3-Coder: function and parameter tags. GLM: the name, and keys and values in tags."""
    inner = body.strip()
    if inner.startswith(("{", "[")):
        return _read_json(inner, tools)
    if inner.startswith("<function="):
        return [
            _parse_function(match[1], match[2], tools) for match in _iter_matches(_FUNCTION, inner)
        ]
    return _read_glm(inner, tools)


def _read_json(text: str, tools: OfferedTools) -> TextCalls:
    try:
        return _parse_documents(text, _LLAMA_GAP, tools, strict=False)
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


def _read_glm(body: str, tools: OfferedTools) -> TextCalls:
    name_match = _GLM_NAME.match(body)
    if name_match is None:
        raise _NotACallError
    pairs = [
        (match[1].strip(), match[2])
        for match in _iter_matches(_GLM_ARGUMENT, body, name_match.end())
    ]
    return [_build_call(name_match[1], _convert_arguments(name_match[1], pairs, tools), tools)]


def _convert_arguments(name: str, pairs: list[tuple[str, str]], tools: OfferedTools) -> JsonObject:
    """Values that stand as plain text, in the types that the tool's schema allows; strings where it does not say."""
    return {
        parameter: _convert_value(text, tools.get_types(name, parameter))
        for parameter, text in pairs
    }


def _convert_value(text: str, types: frozenset[str]) -> Any:
    if not types or "string" in types:
        return text
    value = _parse_value(text)
    return (
        value if any(_TYPE_CHECKS[each](value) for each in types if each in _TYPE_CHECKS) else text
    )


def _parse_value(text: str) -> Any:
    try:
        return loads(text, allow_nan=False)
    except ValueError:
        return (
            _PYTHON_LITERALS[text.strip()]
            if text.strip() in _PYTHON_LITERALS
            else repair_json(text)
        )


def _collect_types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    declared_type = schema.get("type")
    types = {
        each
        for each in (declared_type if isinstance(declared_type, list) else [declared_type])
        if isinstance(each, str)
    }
    for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
        for each in alternatives if isinstance(alternatives, list) else ():
            types |= _collect_types(each)
    return types


_PYTHON_LITERALS = {"True": True, "False": False, "None": None}
_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _read_llama(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, _LLAMA_GAP, tools, strict=False)


def _read_mistral(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    pos = _skip(_MISTRAL_GAP, body, 0)
    while pos < len(body):
        name_match = _MISTRAL_NAME.match(body, pos)
        value, pos = loads_first(body, name_match.end() if name_match else pos)
        calls += (
            [_build_call(name_match[1], value, tools)]
            if name_match
            else _parse_object_calls(value, tools, strict=False)
        )
        pos = _skip(_MISTRAL_GAP, body, pos)
    return calls


def _read_deepseek(body: str, tools: OfferedTools) -> TextCalls:
    return [
        _build_call(match[1], match[2].rstrip().removesuffix("```"), tools)
        for match in _iter_matches(_DEEPSEEK, body)
    ]


def _read_kimi(body: str, tools: OfferedTools) -> TextCalls:
    return [_build_call(match[1], match[2], tools) for match in _iter_matches(_KIMI, body)]


def _read_bare(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, _LLAMA_GAP, tools, strict=True)


# With a name, up to the arguments: many a JSON document begins with a name.
_ARGUMENT_MEMBERS = tuple(
    f'"{key}":{value}' for key in _ARGUMENT_KEYS for value in ("{", '"', "null")
)
_CALL_MEMBERS = (*_ARGUMENT_MEMBERS, *(f'"name":"{_NAME}",{each}' for each in _ARGUMENT_MEMBERS))
_JSON_OPENINGS = (
    *(f"{{{each}" for each in _CALL_MEMBERS),
    *(f"[{{{each}" for each in _CALL_MEMBERS),
)

# Llama 3.1 and 3.2 without the python tag, and models that have no format of their own and copy the API's.
# meta-llama/Llama-3.2-3B-Instruct
BARE_FORMAT = TextCallFormat("", None, _JSON_OPENINGS, _read_bare)

# Models that have no format of their own, and write for a human reader.
FENCE_FORMAT = TextCallFormat("```json", "```", _JSON_OPENINGS, _read_bare, must_be_last=True)

FORMATS = (
    # Hermes 2 Pro and Qwen 2.5 (JSON), Qwen3-Coder (function tags), GLM 4.5 (name, then keys and values).
    # NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct, Qwen/Qwen3-Coder-480B-A35B-Instruct, zai-org/GLM-4.5
    TextCallFormat(
        "<tool_call>",
        "</tool_call>",
        ("{", "[{", "<function=NAME>", "NAME<arg_key>", "NAME</tool_call>"),
        _read_tagged,
    ),
    # Qwen3-Coder without the outer tag, and the custom tools of Llama 3.1: `<function=name>{...}</function>`.
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, Meta's prompt format page of Llama 3.1
    TextCallFormat(
        "<function=",
        "</function>",
        ("NAME>{", "NAME><parameter=", "NAME></function>"),
        _read_function,
    ),
    # Llama 3.1. meta-llama/Llama-3.1-8B-Instruct
    TextCallFormat("<|python_tag|>", None, ("{",), _read_llama),
    # Mistral: a list of objects, later `name[CALL_ID]id[ARGS]{...}` with one marker per call.
    # mistralai/Mistral-7B-Instruct-v0.3, mistralai/Mistral-Small-3.2-24B-Instruct-2506
    TextCallFormat(
        "[TOOL_CALLS]", None, ("[{", "NAME{", "NAME[ARGS]", "NAME[CALL_ID]"), _read_mistral
    ),
    # DeepSeek: with a type and a fence (V3, R1), later without either (V3.1).
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
    """Return the calls that `body` holds; none when it is text after all."""
    try:
        return call_format.read(body, tools)
    except ValueError:
        return []
