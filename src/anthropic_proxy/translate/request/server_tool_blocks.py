"""Describe calls and results of tools that Anthropic's servers run as text.

Such blocks come from conversations that started at Anthropic. Upstreams do not have these tools, so
calls and results become short assistant texts; opaque data (`encrypted_...`) is dropped. The blocks
have many variants, and a client cannot change its history, so unknown shapes are never rejected.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.request.content import to_blocks, to_json, to_parts
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.wire.json_codec import JsonObject

_LineReader = Callable[[JsonObject, TranslationContext], list[str]]
_Describer = Callable[[JsonObject, TranslationContext], str]

# Blocks with a server's tools or the name of the responding model, which are not content.
SILENT_TYPES = frozenset({"mcp_tool_listing", "fallback"})


def render_as_text(block: JsonObject, context: TranslationContext) -> str:
    """Return the text of a block, with placeholders for images."""
    try:
        parts = to_parts([block], context.without_files())
    except ApiError:
        return f"[unreadable {block['type']}]"
    lines = []
    for part in parts:
        lines.append(part["text"] if part["type"] == "text" else f"[{block['type']}]")
    return "\n".join(lines)


def _describe_call(block: JsonObject, _: TranslationContext) -> str:
    name = _get_string(block, "name") or "a tool"
    server = _get_string(block, "server_name")
    if server:
        name = f"{name} of {server}"
    return f"[Called {name} with {to_json(block.get('input') or {})}]"


def _build_result_describer(read_lines: _LineReader) -> _Describer:
    """Return a function that describes a result block: its error, or its lines."""

    def describe_result(block: JsonObject, context: TranslationContext) -> str:
        tool = block["type"].removesuffix("_tool_result")
        content = block.get("content")
        error = _get_string(content, "error_code")
        if error:
            lines = [f"Error: {error}", _get_string(content, "error_message")]
        else:
            lines = read_lines(block, context)
        lines = [line for line in lines if line]
        return "\n".join([f"[Result of {tool}]", *(lines or ["(no text)"])])

    return describe_result


def _search_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    lines = []
    for hit in _as_objects(block.get("content")):
        line = f"- {_get_string(hit, 'title')} {_get_string(hit, 'url')}"
        page_age = _get_string(hit, "page_age")
        lines.append(f"{line} ({page_age})" if page_age else line)
    return lines


def _fetch_lines(block: JsonObject, context: TranslationContext) -> list[str]:
    content = _as_object(block.get("content"))
    document = _as_object(content.get("content"))
    source = _as_object(document.get("source"))
    lines = [_get_string(content, "url")]
    if _get_string(source, "type") in ("base64", "text"):
        # As in a validated block, all fields are strings.
        document_block = {
            "type": "document",
            "title": _get_string(document, "title"),
            "source": {name: _get_string(source, name) for name in ("type", "media_type", "data")},
        }
        lines.append(render_as_text(document_block, context))
    return lines


def _execution_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    content = _as_object(block.get("content"))
    lines = []
    for name in ("stdout", "stderr"):
        text = _get_string(content, name)
        if text:
            lines.append(f"{name}:\n{text}")
    code = content.get("return_code")
    if code not in (None, 0):
        lines.append(f"return code: {code}")
    for file in _as_objects(content.get("content")):
        lines.append(f"[file {_get_string(file, 'file_id')}]")
    return lines


def _editor_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    """Return the text that was read, the file status and the changed lines."""
    content = _as_object(block.get("content"))
    lines = [_get_string(content, "content")]
    is_update = content.get("is_file_update")
    if is_update is not None:
        lines.append("file updated" if is_update else "file created")
    changed_lines = content.get("lines")
    if isinstance(changed_lines, list):
        lines += [line for line in changed_lines if isinstance(line, str)]
    return lines


def _tool_search_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    references = _as_objects(_as_object(block.get("content")).get("tool_references"))
    names = [_get_string(reference, "tool_name") for reference in references]
    return [f"Tool {name} is loaded and can be called." for name in names]


def _advice_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    return [_get_string(block.get("content"), "text")]


def _mcp_lines(block: JsonObject, context: TranslationContext) -> list[str]:
    lines = ["Error:"] if block.get("is_error") else []
    for inner_block in to_blocks(block.get("content")):
        lines.append(render_as_text(inner_block, context))
    return lines


def _as_object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _as_objects(value: Any) -> list[JsonObject]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]


def _get_string(holder: Any, name: str) -> str:
    value = _as_object(holder).get(name)
    return value if isinstance(value, str) else ""


# Functions that return the text of a block, by block type.
DESCRIBERS: dict[str, _Describer] = {
    "server_tool_use": _describe_call,
    "mcp_tool_use": _describe_call,
    "web_search_tool_result": _build_result_describer(_search_lines),
    "web_fetch_tool_result": _build_result_describer(_fetch_lines),
    "code_execution_tool_result": _build_result_describer(_execution_lines),
    "bash_code_execution_tool_result": _build_result_describer(_execution_lines),
    "text_editor_code_execution_tool_result": _build_result_describer(_editor_lines),
    "tool_search_tool_result": _build_result_describer(_tool_search_lines),
    "advisor_tool_result": _build_result_describer(_advice_lines),
    "mcp_tool_result": _build_result_describer(_mcp_lines),
}
