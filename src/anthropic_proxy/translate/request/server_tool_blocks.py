"""What Anthropic's servers did in earlier turns, in words: calls of their tools and what came of them.

Such blocks come from conversations that began at Anthropic's. No upstream has those tools, so a call and its result become
short texts of the assistant, in their place among the others; opaque data (`encrypted_...`) means nothing elsewhere and
goes. The blocks have many variants, and a client can't mend its history: they are read leniently, and never refused.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.request.content import blocks_of, to_json, to_parts
from anthropic_proxy.translate.request.context import Target
from anthropic_proxy.wire.json_codec import JsonObject

# They tell what a server offered or which model answered: nothing that was said.
SILENT = frozenset({"mcp_tool_listing", "fallback"})


def is_server_block(block: JsonObject) -> bool:
    """Whether `to_text` knows the block's type."""
    return block["type"] in _TEXTS


def to_text(block: JsonObject, target: Target) -> str:
    """The block in words."""
    return _TEXTS[block["type"]](block, target)


def as_words(block: JsonObject, target: Target) -> str:
    """An image, a document or a tool's result in a place that holds text alone."""
    try:
        parts = to_parts([block], target.without_files())
    except ApiError:
        return f"[{block['type']} that can't be read]"
    return "\n".join(
        part["text"] if part["type"] == "text" else f"[{block['type']}]" for part in parts
    )


def _call(block: JsonObject, _: Target) -> str:
    server = _string(block, "server_name")
    name = _string(block, "name") or "a tool"
    return f"[Called {name}{f' of {server}' if server else ''} with {to_json(block.get('input') or {})}]"


def _result(read: Callable[[JsonObject, Target], list[str]]) -> Callable[[JsonObject, Target], str]:
    """The text of a result block, whose `content` is an error, or what `read` gives the lines of."""

    def to_text(block: JsonObject, target: Target) -> str:
        tool = block["type"].removesuffix("_tool_result")
        content = block.get("content")
        error = _string(content, "error_code")
        lines = (
            [f"Error: {error}", _string(content, "error_message")] if error else read(block, target)
        )
        return "\n".join(
            [f"[Result of {tool}]", *([line for line in lines if line] or ["(no text)"])]
        )

    return to_text


def _search(block: JsonObject, _: Target) -> list[str]:
    return [
        f"- {_string(found, 'title')} {_string(found, 'url')}{_in_brackets(_string(found, 'page_age'))}"
        for found in _items(block.get("content"))
    ]


def _fetch(block: JsonObject, target: Target) -> list[str]:
    content = _mapping(block.get("content"))
    document = _mapping(content.get("content"))
    given = _mapping(document.get("source"))
    source = {name: _string(given, name) for name in ("type", "media_type", "data")}
    readable = source["type"] in ("base64", "text")
    whole = {"type": "document", "title": _string(document, "title"), "source": source}
    return [_string(content, "url"), as_words(whole, target) if readable else ""]


def _execution(block: JsonObject, _: Target) -> list[str]:
    content = _mapping(block.get("content"))
    streams = [
        f"{name}:\n{text}" for name in ("stdout", "stderr") if (text := _string(content, name))
    ]
    code = content.get("return_code")
    files = [f"[file {_string(file, 'file_id')}]" for file in _items(content.get("content"))]
    return [*streams, "" if code in (None, 0) else f"return code: {code}", *files]


def _editor(block: JsonObject, _: Target) -> list[str]:
    """The text that was seen, what was written, or the lines that were changed."""
    content = _mapping(block.get("content"))
    lines = content.get("lines")
    changed = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
    updated = content.get("is_file_update")
    written = "" if updated is None else "file updated" if updated else "file created"
    return [_string(content, "content"), written, *changed]


def _tool_search(block: JsonObject, _: Target) -> list[str]:
    found = _items(_mapping(block.get("content")).get("tool_references"))
    return [
        f"Tool {_string(reference, 'tool_name')} is loaded and can be called."
        for reference in found
    ]


def _advice(block: JsonObject, _: Target) -> list[str]:
    return [_string(block.get("content"), "text")]


def _mcp(block: JsonObject, target: Target) -> list[str]:
    texts = [as_words(inner, target) for inner in blocks_of(block.get("content"))]
    return ["Error:" if block.get("is_error") else "", *texts]


def _mapping(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(holder: Any, name: str) -> str:
    value = _mapping(holder).get(name)
    return value if isinstance(value, str) else ""


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


_TEXTS: dict[str, Callable[[JsonObject, Target], str]] = {
    "server_tool_use": _call,
    "mcp_tool_use": _call,
    "web_search_tool_result": _result(_search),
    "web_fetch_tool_result": _result(_fetch),
    "code_execution_tool_result": _result(_execution),
    "bash_code_execution_tool_result": _result(_execution),
    "text_editor_code_execution_tool_result": _result(_editor),
    "tool_search_tool_result": _result(_tool_search),
    "advisor_tool_result": _result(_advice),
    "mcp_tool_result": _result(_mcp),
}
