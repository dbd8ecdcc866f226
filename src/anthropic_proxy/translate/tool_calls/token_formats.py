"""Readers of calls between special tokens: gpt-oss (Harmony), Gemma, Mistral, DeepSeek and Kimi.

gpt-oss writes a header and a JSON document, which is the message:

    <|channel|>commentary to=functions.Read <|constrain|>json<|message|>{"path": "a"}<|call|>

Gemma writes an object whose keys have no quotation marks, and whose strings have no escapes:

    <|tool_call>call:Read{path:<|"|>a<|"|>}<tool_call|>
"""

import re
from collections.abc import Callable

from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_calls.json_scanner import skip
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools
from anthropic_proxy.translate.tool_calls.text_calls import (
    NotACallError,
    TextCalls,
    build_call,
    iter_matches,
    parse_object_calls,
)
from anthropic_proxy.wire.json_codec import dumps, loads_first

HARMONY_MESSAGE = "<|message|>"
_HARMONY_HEADER_TOKEN = re.compile(r"<\|start\|>assistant|<\|channel\|>|<\|constrain\|>")
_HARMONY_WORDS = frozenset({"commentary", "analysis", "json", "code"})
_SPACE = re.compile(r"\s*+")
_HARMONY_GAP = re.compile(r"(?:\s|<\|call\|>|<\|end\|>|<\|return\|>)*+")


def read_harmony(body: str, tools: OfferedTools) -> TextCalls:
    """Read one or more messages. Their end tokens may be missing."""
    calls: TextCalls = []
    pos = 0
    while pos < len(body):
        end = body.find(HARMONY_MESSAGE, pos)
        if end < 0:
            raise NotACallError
        name = _parse_harmony_header(body[pos:end])
        arguments, pos = loads_first(body, skip(_SPACE, body, end + len(HARMONY_MESSAGE)))
        calls.append(build_call(name, arguments, tools))
        pos = skip(_HARMONY_GAP, body, pos)
    return calls


def _parse_harmony_header(header: str) -> str:
    """Return the recipient in the header of a message."""
    words = _HARMONY_HEADER_TOKEN.sub(" ", header).split()
    recipients = [word for word in words if word not in _HARMONY_WORDS]
    if len(recipients) != 1 or not recipients[0].startswith("to="):
        raise NotACallError
    return recipients[0].removeprefix("to=")


_STRIPPED_HEADER = re.compile(
    r"\s*+(?:assistant)?+commentary\s++to=([^\s{]++)\s*+(?:json|code)?+\s*+(?={)"
)


def read_stripped_harmony(body: str, tools: OfferedTools) -> TextCalls:
    """Read messages whose special tokens the server removed."""
    calls: TextCalls = []
    pos = 0
    while pos < len(body):
        header = _STRIPPED_HEADER.match(body, pos)
        if header is None:
            raise NotACallError
        arguments, pos = loads_first(body, header.end())
        calls.append(build_call(header[1], arguments, tools))
        pos = skip(_SPACE, body, pos)
    return calls


_GEMMA_CALL = re.compile(r"\s*+call:\s*+([^\s{]++)\s*+(\{.*)", re.DOTALL)
_JSON_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def read_gemma(quote: str) -> Callable[[str, OfferedTools], TextCalls]:
    """Return a reader of one call whose strings are between two `quote` tokens, without escapes."""

    def read(body: str, tools: OfferedTools) -> TextCalls:
        match = _GEMMA_CALL.match(body)
        if match is None:
            raise NotACallError
        # Every second part is a string.
        parts = match[2].split(quote)
        if len(parts) % 2 == 0:
            raise NotACallError
        parts[1::2] = [dumps(text).decode() for text in parts[1::2]]
        document = "".join(parts)
        structure = _JSON_STRING.sub("", document)
        if structure.count("{") != structure.count("}"):
            # The call is incomplete.
            raise NotACallError
        arguments = repair_json(document)
        if arguments is None:
            raise NotACallError
        return [build_call(_merge_names(match[1]), arguments, tools)]

    return read


def _merge_names(name: str) -> str:
    """Return the name without repetitions: `Read:Read`."""
    names = set(name.split(":"))
    return names.pop() if len(names) == 1 else name


_MISTRAL_NAME = re.compile(r"([^\[{\s]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_MISTRAL_GAP = re.compile(r"(?:[\s,]|\[TOOL_CALLS\]|</s>)*")


def read_mistral(body: str, tools: OfferedTools) -> TextCalls:
    calls: TextCalls = []
    pos = skip(_MISTRAL_GAP, body, 0)
    while pos < len(body):
        name_match = _MISTRAL_NAME.match(body, pos)
        if name_match is None:
            value, pos = loads_first(body, pos)
            calls += parse_object_calls(value, tools, strict=False)
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


def read_deepseek(body: str, tools: OfferedTools) -> TextCalls:
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


def read_kimi(body: str, tools: OfferedTools) -> TextCalls:
    return [build_call(match[1], match[2], tools) for match in iter_matches(_KIMI, body)]
