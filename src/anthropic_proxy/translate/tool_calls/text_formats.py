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
from anthropic_proxy.translate.tool_calls.json_repair import repaired
from anthropic_proxy.translate.tool_names import NamePrefixes
from anthropic_proxy.wire.json_codec import JsonObject, loads, loads_first

# The offered tools by the names that the upstream knows, with the schemas of their parameters.
Tools = Mapping[str, JsonObject]

# In a row: the name of an offered tool. A character that no name has follows it.
_NAME = "NAME"


@dataclass(frozen=True)
class TextCall:
    name: str
    arguments: JsonObject


Calls = list[TextCall]


class OfferedTools:
    """The tools that a call can be for, prepared once for all calls in the text of a response."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._types: dict[tuple[str, str], frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __bool__(self) -> bool:
        return bool(self._tools)

    @cached_property
    def prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._tools)

    def types(self, name: str, parameter: str) -> frozenset[str]:
        """Return the JSON types that the tool's schema allows for a parameter; none where it does not say."""
        key = name, parameter
        if key not in self._types:
            properties = self._tools.get(name, {}).get("properties")
            schema = properties.get(parameter) if isinstance(properties, dict) else None
            self._types[key] = frozenset(_types(schema))
        return self._types[key]


@dataclass(frozen=True)
class Format:
    """One format.

    opener: the marker that it begins with.
    end: the marker that ends it; None where it lasts to the end of the response.
    openings: what may follow the opener, white space left out, up to where a call of the tool NAME is certain enough for
    the text to be held.
    read: returns the calls in what stands between the markers, none when they are no calls of offered tools. Raises
    ValueError for anything else.
    last: it counts only as the last thing in the response.
    """

    opener: str
    end: str | None
    openings: tuple[str, ...]
    read: Callable[[str, OfferedTools], Calls]
    last: bool = False

    @cached_property
    def split_openings(self) -> tuple[tuple[str, str], ...]:
        """What precedes and what follows NAME in each opening; nothing follows where there is no NAME."""
        parts = (opening.partition(_NAME) for opening in self.openings)
        return tuple((before, after) for before, _, after in parts)


def starts_call(form: Format, text: str, tools: OfferedTools) -> bool | None:
    """Return whether `text`, white space left out, starts a call behind the opener; None while it may still become one."""
    may_become = False
    for before, after in form.split_openings:
        if text[: len(before)] != before[: len(text)]:
            continue
        starts = _starts_like(before, after, text, tools)
        if starts:
            return True
        may_become |= starts is None
    return None if may_become else False


def _starts_like(before: str, after: str, text: str, tools: OfferedTools) -> bool | None:
    """As above, for one opening; `text` and `before` agree as far as both go."""
    if len(text) < len(before):
        return None
    if not after:
        return True
    name, ends, _ = text[len(before) :].partition(after[0])
    if not ends:
        return None if tools.prefixes.any_begins_with(name) else False
    rest = text[len(before) + len(name) :]
    if name not in tools or rest[: len(after)] != after[: len(rest)]:
        return False
    return True if len(rest) >= len(after) else None


class _NoCallError(ValueError):
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


def _call(name: str, arguments: Any, tools: OfferedTools) -> TextCall:
    if arguments is None or isinstance(arguments, str):
        arguments = parse_arguments(arguments or "")
    if name not in tools or not isinstance(arguments, dict):
        raise _NoCallError
    return TextCall(name, arguments)


def _object_call(value: Any, tools: OfferedTools, *, exactly: bool) -> TextCall:
    """The call of an object with name and arguments; `exactly` these."""
    if not isinstance(value, dict):
        raise _NoCallError
    value = value["function"] if isinstance(value.get("function"), dict) and not exactly else value
    key = next((each for each in _ARGUMENT_KEYS if each in value), None)
    if not isinstance(value.get("name"), str) or (exactly and (key is None or len(value) != 2)):
        raise _NoCallError
    return _call(value["name"], value[key] if key else {}, tools)


def _object_calls(value: Any, tools: OfferedTools, *, exactly: bool) -> Calls:
    """The calls of an object, or of a list of them."""
    return [
        _object_call(each, tools, exactly=exactly)
        for each in (value if isinstance(value, list) else [value])
    ]


def _documents(text: str, gap: re.Pattern[str], tools: OfferedTools, *, exactly: bool) -> Calls:
    calls: Calls = []
    at = _past(gap, text, 0)
    while at < len(text):
        value, at = loads_first(text, at)
        calls += _object_calls(value, tools, exactly=exactly)
        at = _past(gap, text, at)
    return calls


def _past(gap: re.Pattern[str], text: str, at: int) -> int:
    found = gap.match(text, at)
    return found.end() if found else at


def _each(pattern: re.Pattern[str], text: str, start: int = 0) -> Iterator[re.Match[str]]:
    """The matches of `pattern`, one behind the other to the end of the text; anything else is no call."""
    at = start
    while not _BLANK.match(text, at):
        found = pattern.match(text, at)
        if found is None:
            raise _NoCallError
        yield found
        at = found.end()


def _read_tagged(body: str, tools: OfferedTools) -> Calls:
    """Hermes and Qwen: JSON. Qwen3-Coder: function and parameter tags. GLM: the name, and keys and values in tags."""
    inner = body.strip()
    if inner.startswith(("{", "[")):
        return _read_json(inner, tools)
    if inner.startswith("<function="):
        return [_function(found[1], found[2], tools) for found in _each(_FUNCTION, inner)]
    return _read_glm(inner, tools)


def _read_json(text: str, tools: OfferedTools) -> Calls:
    try:
        return _documents(text, _LLAMA_GAP, tools, exactly=False)
    except ValueError:
        return [_object_call(repaired(text), tools, exactly=False)]


def _function(name: str, inner: str, tools: OfferedTools) -> TextCall:
    name = name.strip()
    if inner.lstrip().startswith("{"):
        return _call(name, inner, tools)
    pairs = [(found[1].strip(), found[2]) for found in _each(_PARAMETER, inner)]
    return _call(name, _typed(name, pairs, tools), tools)


def _read_function(body: str, tools: OfferedTools) -> Calls:
    name, _, inner = body.partition(">")
    return [_function(name, inner, tools)]


def _read_glm(body: str, tools: OfferedTools) -> Calls:
    named = _GLM_NAME.match(body)
    if named is None:
        raise _NoCallError
    pairs = [(found[1].strip(), found[2]) for found in _each(_GLM_ARGUMENT, body, named.end())]
    return [_call(named[1], _typed(named[1], pairs, tools), tools)]


def _typed(name: str, pairs: list[tuple[str, str]], tools: OfferedTools) -> JsonObject:
    """Values that stand as plain text, in the types that the tool's schema allows; strings where it does not say."""
    return {parameter: _value(text, tools.types(name, parameter)) for parameter, text in pairs}


def _value(text: str, types: frozenset[str]) -> Any:
    if not types or "string" in types:
        return text
    value = _parsed(text)
    return value if any(_IS[each](value) for each in types if each in _IS) else text


def _parsed(text: str) -> Any:
    try:
        return loads(text, allow_nan=False)
    except ValueError:
        return _PYTHON[text.strip()] if text.strip() in _PYTHON else repaired(text)


def _types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    given = schema.get("type")
    types = {
        each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str)
    }
    for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
        for each in alternatives if isinstance(alternatives, list) else ():
            types |= _types(each)
    return types


_PYTHON = {"True": True, "False": False, "None": None}
_IS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _read_llama(body: str, tools: OfferedTools) -> Calls:
    return _documents(body, _LLAMA_GAP, tools, exactly=False)


def _read_mistral(body: str, tools: OfferedTools) -> Calls:
    calls: Calls = []
    at = _past(_MISTRAL_GAP, body, 0)
    while at < len(body):
        named = _MISTRAL_NAME.match(body, at)
        value, at = loads_first(body, named.end() if named else at)
        calls += (
            [_call(named[1], value, tools)] if named else _object_calls(value, tools, exactly=False)
        )
        at = _past(_MISTRAL_GAP, body, at)
    return calls


def _read_deepseek(body: str, tools: OfferedTools) -> Calls:
    return [
        _call(found[1], found[2].rstrip().removesuffix("```"), tools)
        for found in _each(_DEEPSEEK, body)
    ]


def _read_kimi(body: str, tools: OfferedTools) -> Calls:
    return [_call(found[1], found[2], tools) for found in _each(_KIMI, body)]


def _read_bare(body: str, tools: OfferedTools) -> Calls:
    return _documents(body, _LLAMA_GAP, tools, exactly=True)


# With a name, up to the arguments: many a JSON document begins with a name.
_ARGUMENTS = tuple(f'"{key}":{value}' for key in _ARGUMENT_KEYS for value in ("{", '"', "null"))
_MEMBERS = (*_ARGUMENTS, *(f'"name":"{_NAME}",{each}' for each in _ARGUMENTS))
_JSON_CALLS = (*(f"{{{each}" for each in _MEMBERS), *(f"[{{{each}" for each in _MEMBERS))

# Llama 3.1 and 3.2 without the python tag, and models that have no format of their own and copy the API's.
# meta-llama/Llama-3.2-3B-Instruct
BARE = Format("", None, _JSON_CALLS, _read_bare)

# Models that have no format of their own, and write for a human reader.
FENCE = Format("```json", "```", _JSON_CALLS, _read_bare, last=True)

FORMATS = (
    # Hermes 2 Pro and Qwen 2.5 (JSON), Qwen3-Coder (function tags), GLM 4.5 (name, then keys and values).
    # NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct, Qwen/Qwen3-Coder-480B-A35B-Instruct, zai-org/GLM-4.5
    Format(
        "<tool_call>",
        "</tool_call>",
        ("{", "[{", "<function=NAME>", "NAME<arg_key>", "NAME</tool_call>"),
        _read_tagged,
    ),
    # Qwen3-Coder without the outer tag, and the custom tools of Llama 3.1: `<function=name>{...}</function>`.
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, Meta's prompt format page of Llama 3.1
    Format(
        "<function=",
        "</function>",
        ("NAME>{", "NAME><parameter=", "NAME></function>"),
        _read_function,
    ),
    # Llama 3.1. meta-llama/Llama-3.1-8B-Instruct
    Format("<|python_tag|>", None, ("{",), _read_llama),
    # Mistral: a list of objects, later `name[CALL_ID]id[ARGS]{...}` with one marker per call.
    # mistralai/Mistral-7B-Instruct-v0.3, mistralai/Mistral-Small-3.2-24B-Instruct-2506
    Format("[TOOL_CALLS]", None, ("[{", "NAME{", "NAME[ARGS]", "NAME[CALL_ID]"), _read_mistral),
    # DeepSeek: with a type and a fence (V3, R1), later without either (V3.1).
    # deepseek-ai/DeepSeek-V3, deepseek-ai/DeepSeek-V3.1
    Format(
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
    Format(
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        (
            "<|tool_call_begin|>functions.NAME:",
            "<|tool_call_begin|>NAME:",
            "<|tool_call_begin|>NAME<|tool_call_argument_begin|>",
        ),
        _read_kimi,
    ),
    FENCE,
)


def read_calls(form: Format, body: str, tools: OfferedTools) -> Calls:
    """Return the calls that `body` holds; none when it is text after all."""
    try:
        return form.read(body, tools)
    except ValueError:
        return []
