"""Formats in which models write tool calls as text.

A table has one row for each format, with its markers and its reader. The rows cite the chat
template by its repository on Hugging Face, or the vendor's documentation. Servers with a parser for
their model convert such calls; other servers forward them as text. A text is a call only if it has
the name of an offered tool. If one of several calls within a pair of markers is invalid, all of
them are text.

All patterns match or fail in linear time: adjacent repetitions have no characters in common.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools
from anthropic_proxy.translate.tool_calls.tag_formats import (
    M3_MARKER,
    read_invokes,
    read_m3_invoke,
    read_tagged_invoke,
)
from anthropic_proxy.translate.tool_calls.text_calls import (
    NotACallError,
    TextCall,
    TextCalls,
    build_call,
    build_call_of_texts,
    iter_matches,
    skip,
)
from anthropic_proxy.translate.tool_calls.token_formats import (
    HARMONY_MESSAGE,
    read_gemma,
    read_harmony,
    read_stripped_harmony,
)
from anthropic_proxy.wire.json_codec import loads_first, repair_surrogates

# A placeholder for the name of an offered tool, which may have a namespace.
_NAME = "NAME"


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
    # whether only blanks may precede the opener on its line, because it is no special token and may
    # be part of prose
    must_start_line: bool = False
    # marker before the JSON document of the arguments; without it, at most a name precedes it
    document_marker: str | None = None
    # other spellings of the marker after the calls
    other_ends: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[str, ...]:
        """All markers after the calls; empty if they extend to the end of the response."""
        return () if self.end is None else (self.end, *self.other_ends)

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
    name, separator, _ = text.partition(after)
    if separator:
        return tools.find(name) is not None
    if tools.prefixes.any_starts_with(text):
        return None
    for size in range(1, len(after)):
        if text.endswith(after[:size]) and tools.find(text[:-size]) is not None:
            return None
    return False


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


def _parse_object_calls(value: Any, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in an object, or in a list of objects."""
    entries = value if isinstance(value, list) else [value]
    return [_parse_object_call(entry, tools, strict=strict) for entry in entries]


def _parse_documents(text: str, tools: OfferedTools, *, strict: bool) -> TextCalls:
    """Return the calls in a text that is a sequence of JSON documents."""
    calls: TextCalls = []
    pos = skip(_DOCUMENT_GAP, text, 0)
    while pos < len(text):
        value, pos = loads_first(text, pos)
        calls += _parse_object_calls(value, tools, strict=strict)
        pos = skip(_DOCUMENT_GAP, text, pos)
    return calls


_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def _read_tagged(body: str, tools: OfferedTools) -> TextCalls:
    inner = body.strip()
    if inner.startswith(("{", "[")):
        # Hermes and Qwen
        return _read_json(inner, tools)
    if inner.startswith("<function="):
        # Qwen3-Coder
        matches = iter_matches(_FUNCTION, inner)
        return [_parse_function(match[1], match[2], tools) for match in matches]
    if inner.startswith(("<invoke", M3_MARKER)):
        # MiniMax, with the wrapper of M3 but without its markers
        return read_invokes(inner, tools)
    return _read_glm(inner, tools)


def _read_json(text: str, tools: OfferedTools) -> TextCalls:
    try:
        return _parse_documents(text, tools, strict=False)
    except ValueError:
        return [_parse_object_call(repair_json(text), tools, strict=False)]


def _parse_function(name: str, inner: str, tools: OfferedTools) -> TextCall:
    name = name.strip()
    if inner.lstrip().startswith("{"):
        return build_call(name, inner, tools)
    pairs = [(match[1].strip(), match[2]) for match in iter_matches(_PARAMETER, inner)]
    return build_call_of_texts(name, pairs, tools)


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
        raise NotACallError
    name = name_match[1]
    matches = iter_matches(_GLM_ARGUMENT, body, name_match.end())
    pairs = [(match[1].strip(), match[2]) for match in matches]
    return [build_call_of_texts(name, pairs, tools)]


def _read_llama(body: str, tools: OfferedTools) -> TextCalls:
    return _parse_documents(body, tools, strict=False)


_MISTRAL_NAME = re.compile(r"([^\[{\s]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_MISTRAL_GAP = re.compile(r"(?:[\s,]|\[TOOL_CALLS\]|</s>)*")


def _read_mistral(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    pos = skip(_MISTRAL_GAP, body, 0)
    while pos < len(body):
        name_match = _MISTRAL_NAME.match(body, pos)
        if name_match is None:
            value, pos = loads_first(body, pos)
            calls += _parse_object_calls(value, tools, strict=False)
        else:
            value, pos = loads_first(body, name_match.end())
            calls.append(build_call(name_match[1], value, tools))
        pos = skip(_MISTRAL_GAP, body, pos)
    return calls


_DEEPSEEK = re.compile(
    r"\s*+<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?\s*+([^\s<]++)\s*+(?:<｜tool▁sep｜>)?\s*+"
    r"(?:```(?:json)?\s*+)?(\{.*?)<｜tool▁call▁end｜>",
    re.DOTALL,
)


def _read_deepseek(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    for match in iter_matches(_DEEPSEEK, body):
        arguments = match[2].rstrip().removesuffix("```")
        calls.append(build_call(match[1], arguments, tools))
    return calls


_KIMI = re.compile(
    r"\s*<\|tool_call_begin\|>\s*(?:functions\.)?([^\s<:]+)(?::\d+)?\s*"
    r"<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>",
    re.DOTALL,
)


def _read_kimi(body: str, tools: OfferedTools) -> TextCalls:
    return [build_call(match[1], match[2], tools) for match in iter_matches(_KIMI, body)]


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

# gpt-oss on servers that remove special tokens. Accepted as the complete response.
# github.com/raullenchai/Rapid-MLX/issues/480
STRIPPED_HARMONY_FORMAT = TextCallFormat(
    "",
    None,
    tuple(f"commentaryto=functions.{_NAME}{word}{{" for word in ("", "json", "code")),
    read_stripped_harmony,
)

_INVOKE_OPENINGS = (f'name="{_NAME}">', f"name='{_NAME}'>", f"name={_NAME}>")
_WRAPPED_INVOKE_OPENINGS = tuple(f"<invoke{opening}" for opening in _INVOKE_OPENINGS)
_M3_INVOKE_OPENINGS = tuple(f"{M3_MARKER}{opening}" for opening in _WRAPPED_INVOKE_OPENINGS)

# The bars around DSML. DeepSeek's encoding has full-width bars; the other forms are seen in
# responses. deepseek-ai/DeepSeek-V3.2, github.com/lsdefine/GenericAgent/issues/804,
# github.com/AgentFlocks/flocks/pull/687, github.com/cline/cline/issues/13348
_DSML_TAGS = tuple(f"{bar}DSML{bar}" for bar in ("｜", "｜｜", "|", "||", "‖", " | "))
# The tags around the calls: V3.2, V4, and names that models write in their place.
_DSML_WRAPPERS = ("function_calls", "tool_calls", "calls", "tool_use")


def _build_dsml_format(tag: str) -> TextCallFormat:
    dense_tag = tag.replace(" ", "")
    wrappers = ("", *(f"{wrapper}><{dense_tag}" for wrapper in _DSML_WRAPPERS))
    openings = tuple(
        f"{wrapper}invoke{opening}" for wrapper in wrappers for opening in _INVOKE_OPENINGS
    )
    return TextCallFormat(
        f"<{tag}",
        f"</{tag}invoke>",
        openings,
        read_tagged_invoke(tag),
        other_ends=(f"</{tag} invoke>",),
    )


_HARMONY_CALLS = tuple(
    f"to=functions.{_NAME}{channel}{content_type}{HARMONY_MESSAGE}{{"
    for channel in ("", "<|channel|>commentary", "<|channel|>analysis")
    for content_type in ("", "<|constrain|>json", "json", "code")
)
_HARMONY_OPENINGS = tuple(
    f"{channel}{call}" for channel in ("commentary", "analysis") for call in _HARMONY_CALLS
)

FORMATS = (
    # Hermes 2 Pro and Qwen 2.5 (JSON), Qwen3-Coder (tags of functions and parameters), GLM 4.5
    # (name, then keys and values in tags).
    # NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct,
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, zai-org/GLM-4.5
    TextCallFormat(
        "<tool_call>",
        "</tool_call>",
        (
            *("{", "[{", "<function=NAME>", "NAME<arg_key>", "NAME</tool_call>"),
            *_WRAPPED_INVOKE_OPENINGS,
            *_M3_INVOKE_OPENINGS,
        ),
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
    # DeepSeek V3.2 and V4. Each call in the tags ends separately.
    # deepseek-ai/DeepSeek-V3.2, deepseek-ai/DeepSeek-V4
    *map(_build_dsml_format, _DSML_TAGS),
    # MiniMax M2 to M2.7, and models that imitate Claude. Each call in the tags ends separately.
    # MiniMaxAI/MiniMax-M2.1, github.com/MiniMax-AI/MiniMax-M2.5/issues/10
    TextCallFormat(
        "<minimax:tool_call>", "</invoke>", _WRAPPED_INVOKE_OPENINGS, read_tagged_invoke("")
    ),
    TextCallFormat(
        "<function_calls>",
        "</invoke>",
        _WRAPPED_INVOKE_OPENINGS,
        read_tagged_invoke(""),
        must_start_line=True,
    ),
    TextCallFormat(
        "<invoke", "</invoke>", _INVOKE_OPENINGS, read_tagged_invoke(""), must_start_line=True
    ),
    # MiniMax M3: a marker precedes each tag, and the tags of parameters have their names.
    # MiniMaxAI/MiniMax-M3, github.com/ikawrakow/ik_llama.cpp/pull/2008
    TextCallFormat(
        M3_MARKER,
        "</invoke>",
        (
            *_WRAPPED_INVOKE_OPENINGS,
            *(f"<tool_call>{opening}" for opening in _WRAPPED_INVOKE_OPENINGS),
            *(f"<tool_call>{opening}" for opening in _M3_INVOKE_OPENINGS),
        ),
        read_m3_invoke,
    ),
    # gpt-oss. The recipient is in the role or in the channel; servers remove the last token.
    # OpenAI's page "OpenAI harmony response format", github.com/waybarrios/vllm-mlx/pull/562
    TextCallFormat(
        "<|channel|>",
        "<|call|>",
        _HARMONY_OPENINGS,
        read_harmony,
        document_marker=HARMONY_MESSAGE,
    ),
    TextCallFormat(
        "<|start|>assistant",
        "<|call|>",
        (*(f"<|channel|>{opening}" for opening in _HARMONY_OPENINGS), *_HARMONY_CALLS),
        read_harmony,
        document_marker=HARMONY_MESSAGE,
    ),
    # Gemma 4, which sometimes repeats the name, and FunctionGemma.
    # google/gemma-4-31b-it, github.com/DenisovAV/flutter_gemma/issues/228,
    # google/functiongemma-270m-it
    TextCallFormat(
        "<|tool_call>", "<tool_call|>", (f"call:{_NAME}{{", f"call:{_NAME}:"), read_gemma('<|"|>')
    ),
    TextCallFormat(
        "<start_function_call>", "<end_function_call>", (f"call:{_NAME}{{",), read_gemma("<escape>")
    ),
    FENCE_FORMAT,
)

# Markers after a call without the markers to which they belong: closing tags of several calls, and
# special tokens that the server does not remove.
STRAY_MARKERS = (
    # Qwen3-Coder omits the opening tag.
    "</tool_call>",
    *("</minimax:tool_call>", "</function_calls>", f"{M3_MARKER}</tool_call>"),
    *(f"</{tag}{wrapper}>" for tag in _DSML_TAGS for wrapper in _DSML_WRAPPERS),
    *(f"</{tag} {wrapper}>" for tag in _DSML_TAGS for wrapper in _DSML_WRAPPERS),
    # Gemma 4 requests the result.
    "<|tool_response>",
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<｜end▁of▁sentence｜>"),
)


def read_calls(call_format: TextCallFormat, body: str, tools: OfferedTools) -> TextCalls:
    """Return the calls in `body`, or none if it is other text."""
    try:
        return call_format.read(repair_surrogates(body), tools)
    except ValueError:
        return []
