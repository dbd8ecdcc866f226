"""Readers of calls in tags.

`invoke` tags: DeepSeek's DSML, MiniMax, and imitations of Claude.

    <invoke name="Read"><parameter name="path">a.txt</parameter></invoke>

MiniMax M3 writes a marker before each tag, and names the tags after the parameters. Objects are
nested tags, and lists consist of `item` tags.

`tool_call` and `function` tags: JSON (Hermes and Qwen), tags of functions and parameters
(Qwen3-Coder), or a name before keys and values in tags (GLM).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.translate.tool_calls.offered_tools import (
    OfferedTools,
    convert_text,
    get_item_schema,
    get_member_schema,
)
from anthropic_proxy.translate.tool_calls.text_calls import (
    NotACallError,
    TextCall,
    TextCalls,
    build_call,
    build_call_of_texts,
    iter_matches,
    read_json,
)
from anthropic_proxy.wire.json_codec import JsonObject, loads

M3_MARKER = "]<]minimax[>["
_M3_MARKER = re.escape(M3_MARKER)
_INVOKE_END = "</invoke>"

# An attribute `name`, with or without quotation marks.
_NAME = r"""name\s*+=\s*+["']?+([^"'<>]++)["']?+"""


def read_tagged_invoke(tag: str) -> Callable[[str, OfferedTools], TextCalls]:
    """Return a reader of the text before `</{tag}invoke>`. A wrapper may precede the call.

    A blank may follow the tag.
    """
    tag = re.escape(tag) + (" ?" if tag else "")
    head = re.compile(rf"(?:(?:[^<>]*+>)?\s*+<{tag})?\s*+(?:invoke)?\s*+{_NAME}\s*+>")
    parameter = re.compile(
        rf"""\s*+<{tag}parameter\s++{_NAME}(?:\s++string="(true|false)")?+\s*+>"""
        rf"(.*?)</{tag}parameter ?>",
        re.DOTALL,
    )

    def read(body: str, tools: OfferedTools) -> TextCalls:
        match = head.match(body)
        if match is None:
            raise NotACallError
        name, inner = match[1].strip(), body[match.end() :]
        if inner.lstrip().startswith("{"):
            return [build_call(name, inner, tools)]
        schema = tools.get_schema(tools.find(name) or "")
        arguments: JsonObject = {}
        for part in iter_matches(parameter, inner):
            key, is_string, text = part[1].strip(), part[2], part[3]
            types = tools.get_types(get_member_schema(schema, key))
            _add_member(arguments, key, _convert_parameter(text, is_string, types))
        return [build_call(name, arguments, tools)]

    return read


def _convert_parameter(text: str, is_string: str | None, types: frozenset[str]) -> Any:
    """Convert the text of a parameter. DSML marks strings and JSON values in an attribute."""
    if is_string == "true":
        return text
    if is_string == "false":
        try:
            return loads(text, allow_nan=False)
        except ValueError:
            return convert_text(text, types)
    if len(text) > 1 and text.startswith("\n") and text.endswith("\n"):
        # The tags are on separate lines.
        text = text[1:-1]
    return convert_text(text, types)


def _add_member(target: JsonObject, key: str, value: Any) -> None:
    if key in target:
        # Either value would be lost.
        raise NotACallError
    target[key] = value


_read_plain_invoke = read_tagged_invoke("")


def read_invokes(body: str, tools: OfferedTools) -> TextCalls:
    """Read one or more calls, each with its end tag, with or without markers of M3."""
    calls: TextCalls = []
    *parts, rest = body.split(_INVOKE_END)
    if rest.replace(M3_MARKER, "").strip() or not parts:
        raise NotACallError
    for part in parts:
        has_marker = M3_MARKER in part
        calls += read_m3_invoke(part, tools) if has_marker else _read_plain_invoke(part, tools)
    return calls


_M3_HEAD = re.compile(
    rf"\s*+(?:{_M3_MARKER})?+\s*+(?:<tool_call>)?+\s*+(?:{_M3_MARKER})?+<invoke\s++{_NAME}\s*+>"
)
# A tag, and the text after it. Some responses have tags `parameter` with a name, as in M2.
_M3_TAG = re.compile(rf"<(/?+)([^\s<>/]++)(?:\s++{_NAME})?+\s*+>(.*)", re.DOTALL)
_M3_ENDS = ("invoke", "tool_call")
_MAX_DEPTH = 50


@dataclass
class _Element:
    tag: str
    key: str
    schema: Any
    text: str = ""
    children: list[tuple[str, Any]] = field(default_factory=list)


def read_m3_invoke(body: str, tools: OfferedTools) -> TextCalls:
    """Read the text before `</invoke>`."""
    head = _M3_HEAD.match(body)
    if head is None:
        raise NotACallError
    name = head[1].strip()
    root = _Element("invoke", "", tools.get_schema(tools.find(name) or ""))
    before, *parts = body[head.end() :].split(M3_MARKER)
    if before.strip():
        raise NotACallError
    stack = [root]
    for part in parts:
        _read_m3_part(part, stack, tools)
    if len(stack) > 1:
        raise NotACallError
    return [_build_m3_call(name, root, tools)]


def _build_m3_call(name: str, root: _Element, tools: OfferedTools) -> TextCall:
    arguments: JsonObject = {}
    for key, value in root.children:
        _add_member(arguments, key, value)
    return build_call(name, arguments, tools)


def _read_m3_part(part: str, stack: list[_Element], tools: OfferedTools) -> None:
    """Read one tag and the text after it."""
    if not part.strip():
        return
    match = _M3_TAG.match(part)
    if match is None:
        raise NotACallError
    slash, tag, key, text = match.groups()
    if not slash:
        _open_element(tag, key or tag, stack)
        # The marker before the end tag may be missing.
        end_tag = f"</{tag}>"
        if not text.rstrip().endswith(end_tag):
            stack[-1].text = text
            return
        stack[-1].text = text.rstrip().removesuffix(end_tag)
    elif text.strip():
        raise NotACallError
    elif len(stack) == 1:
        if tag not in _M3_ENDS:
            raise NotACallError
        return
    _close_element(tag, stack, tools)


def _open_element(tag: str, key: str, stack: list[_Element]) -> None:
    if len(stack) > _MAX_DEPTH:
        raise NotACallError
    parent = stack[-1].schema
    schema = get_member_schema(parent, key)
    if schema is None and key == "item":
        schema = get_item_schema(parent)
    stack.append(_Element(tag, key, schema))


def _close_element(tag: str, stack: list[_Element], tools: OfferedTools) -> None:
    element = stack.pop()
    if element.tag != tag:
        raise NotACallError
    value = _to_value(element, tools.get_types(element.schema))
    stack[-1].children.append((element.key, value))


def _to_value(element: _Element, types: frozenset[str]) -> Any:
    if not element.children:
        if not element.text.strip() and len(types) == 1 and types <= {"array", "object"}:
            return [] if "array" in types else {}
        return convert_text(element.text, types)
    if element.text.strip():
        raise NotACallError
    is_list = all(key == "item" for key, _ in element.children)
    if is_list and ("array" in types or "object" not in types):
        return [value for _, value in element.children]
    members: JsonObject = {}
    for key, value in element.children:
        _add_member(members, key, value)
    return members


_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def read_tool_call(body: str, tools: OfferedTools) -> TextCalls:
    inner = body.strip()
    if inner.startswith(("{", "[")):
        # Hermes and Qwen
        return read_json(inner, tools)
    if inner.startswith("<function="):
        # Qwen3-Coder
        matches = iter_matches(_FUNCTION, inner)
        return [_parse_function(match[1], match[2], tools) for match in matches]
    if inner.startswith(("<invoke", M3_MARKER)):
        # MiniMax, with the wrapper of M3 but without its markers
        return read_invokes(inner, tools)
    return _read_glm(inner, tools)


def _parse_function(name: str, inner: str, tools: OfferedTools) -> TextCall:
    name = name.strip()
    if inner.lstrip().startswith("{"):
        return build_call(name, inner, tools)
    pairs = [(match[1].strip(), match[2]) for match in iter_matches(_PARAMETER, inner)]
    return build_call_of_texts(name, pairs, tools)


def read_function(body: str, tools: OfferedTools) -> TextCalls:
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
