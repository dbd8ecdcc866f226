"""Describe tool calls of Anthropic's servers and their results as text.

Such blocks come from conversations that began at Anthropic. No upstream has those tools, so a call
and its result become short assistant texts in place; opaque data (`encrypted_...`) is dropped. The
blocks have many variants, and a client can't repair its history: they are read leniently and never
refused.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.request.content import to_blocks, to_json, to_parts
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.wire.json_codec import JsonObject

# Blocks that list a server's tools or the responding model, and no content of the conversation.
SILENT_TYPES = frozenset({"mcp_tool_listing", "fallback"})


def is_server_tool_block(block: JsonObject) -> bool:
    """Return whether `describe_block` supports the block's type."""
    return block["type"] in _DESCRIBERS


def describe_block(block: JsonObject, context: TranslationContext) -> str:
    """Return the block as text."""
    return _DESCRIBERS[block["type"]](block, context)


def render_as_text(block: JsonObject, context: TranslationContext) -> str:
    """Return an image, document or tool result as text, for places that hold text alone."""
    try:
        parts = to_parts([block], context.without_files())
    except ApiError:
        return f"[{block['type']} that can't be read]"
    return "\n".join(
        part["text"] if part["type"] == "text" else f"[{block['type']}]" for part in parts
    )


def _describe_call(block: JsonObject, _: TranslationContext) -> str:
    server = _get_string(block, "server_name")
    name = _get_string(block, "name") or "a tool"
    return f"[Called {name}{f' of {server}' if server else ''} with {to_json(block.get('input') or {})}]"


def _build_result_describer(
    read: Callable[[JsonObject, TranslationContext], list[str]],
) -> Callable[[JsonObject, TranslationContext], str]:
    """Return a function that describes a result block: an error, or the lines of `read`."""

    def describe_result(block: JsonObject, context: TranslationContext) -> str:
        tool = block["type"].removesuffix("_tool_result")
        content = block.get("content")
        error = _get_string(content, "error_code")
        lines = (
            [f"Error: {error}", _get_string(content, "error_message")]
            if error
            else read(block, context)
        )
        return "\n".join(
            [f"[Result of {tool}]", *([line for line in lines if line] or ["(no text)"])]
        )

    return describe_result


def _search_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    return [
        f"- {_get_string(hit, 'title')} {_get_string(hit, 'url')}{_parenthesize(_get_string(hit, 'page_age'))}"
        for hit in _as_objects(block.get("content"))
    ]


def _fetch_lines(block: JsonObject, context: TranslationContext) -> list[str]:
    content = _as_object(block.get("content"))
    document = _as_object(content.get("content"))
    source_json = _as_object(document.get("source"))
    source = {name: _get_string(source_json, name) for name in ("type", "media_type", "data")}
    is_readable = source["type"] in ("base64", "text")
    document_block = {"type": "document", "title": _get_string(document, "title"), "source": source}
    return [
        _get_string(content, "url"),
        render_as_text(document_block, context) if is_readable else "",
    ]


def _execution_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    content = _as_object(block.get("content"))
    streams = [
        f"{name}:\n{text}" for name in ("stdout", "stderr") if (text := _get_string(content, name))
    ]
    code = content.get("return_code")
    files = [
        f"[file {_get_string(file, 'file_id')}]" for file in _as_objects(content.get("content"))
    ]
    return [*streams, "" if code in (None, 0) else f"return code: {code}", *files]


def _editor_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    """Return the text that was read, the file status, or the changed lines."""
    content = _as_object(block.get("content"))
    lines = content.get("lines")
    changed_lines = (
        [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
    )
    is_update = content.get("is_file_update")
    file_status = "" if is_update is None else "file updated" if is_update else "file created"
    return [_get_string(content, "content"), file_status, *changed_lines]


def _tool_search_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    references = _as_objects(_as_object(block.get("content")).get("tool_references"))
    return [
        f"Tool {_get_string(reference, 'tool_name')} is loaded and can be called."
        for reference in references
    ]


def _advice_lines(block: JsonObject, _: TranslationContext) -> list[str]:
    return [_get_string(block.get("content"), "text")]


def _mcp_lines(block: JsonObject, context: TranslationContext) -> list[str]:
    texts = [render_as_text(inner, context) for inner in to_blocks(block.get("content"))]
    return ["Error:" if block.get("is_error") else "", *texts]


def _as_object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _as_objects(value: Any) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _get_string(holder: Any, name: str) -> str:
    value = _as_object(holder).get(name)
    return value if isinstance(value, str) else ""


def _parenthesize(text: str) -> str:
    return f" ({text})" if text else ""


_DESCRIBERS: dict[str, Callable[[JsonObject, TranslationContext], str]] = {
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
