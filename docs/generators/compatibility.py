"""Generate docs/compatibility.md: the translation of each part of the Messages API.

A test compares the tables with the official SDK's types and with the translation's tables, so that
the page misses neither a new part of the API nor a change of the proxy. `make docs` writes the
page.
"""

from collections.abc import Iterable, Mapping

from anthropic_proxy.errors import TYPE_BY_STATUS
from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.translate.response.stop_reasons import STOP_REASONS

# Content blocks of requests, by type.
REQUEST_BLOCKS: Mapping[str, str] = {
    "text": "text; neighbours of one role are joined, empty ones left out, `citations` ignored",
    "image": (
        "`image_url`; an address is fetched by the proxy where the upstream does not fetch, a "
        "file id is refused"
    ),
    "document": (
        "a PDF is a `file` part, or its text where the upstream takes no files; text and content "
        "sources are text "
        "with title and context; a file id is refused"
    ),
    "search_result": "text with title and source",
    "thinking": (
        "the upstream's own reasoning field, restored from the signature; of other servers: left "
        "out"
    ),
    "redacted_thinking": (
        "the upstream's encrypted reasoning, restored from `data`; of other servers: left out"
    ),
    "tool_use": "`tool_calls`, with names and ids made legal and unique",
    "tool_result": (
        "a `tool` message right after the calls, in their order; images and files follow in a user "
        "message, "
        "labelled; `is_error` is told as text; one without a call is kept as user text, a missing "
        "one is told as "
        "such"
    ),
    "tool_reference": "text that says that the tool is loaded; its definition is in `tools`",
    "browser_state": "text: tabs and what changed",
    "server_tool_use": "text of the assistant: what was called",
    "web_search_tool_result": (
        "text of the assistant: titles and addresses; encrypted content is left out"
    ),
    "web_fetch_tool_result": "text of the assistant: address and content",
    "code_execution_tool_result": "text of the assistant: output, errors, return code",
    "bash_code_execution_tool_result": "text of the assistant: output, errors, return code",
    "text_editor_code_execution_tool_result": "text of the assistant: what was seen or changed",
    "tool_search_tool_result": "text of the assistant: the tools that were found",
    "advisor_tool_result": "text of the assistant: the advice",
    "mcp_tool_use": "text of the assistant: what was called",
    "mcp_tool_result": "text of the assistant: the result",
    "mcp_tool_listing": "left out: it says what a server offered, and nothing that was said",
    "fallback": "left out: it says which model answered",
    "container_upload": "refused: this server keeps no files and has no containers",
    "compaction": (
        "everything before it is left out, and its summary begins the conversation; one without a "
        "summary is left out"
    ),
    "tool_addition": "in system messages: the tool is offered from then on",
    "tool_removal": "in system messages: the tool is no longer offered",
}

# Tools, by the beginning of their type.
TOOLS: Mapping[str, str] = {
    "custom": (
        "a function; the schema is made legal without losing meaning, `strict` kept where the "
        "schema allows it, "
        "examples told in the description"
    ),
    "bash_": "a function with the type's schema",
    "text_editor_": "a function with the type's schema",
    "memory_": "a function with the type's schema",
    "computer_": (
        "a function with the type's schema, the sizes of the display told in the description"
    ),
    "computer_toolset_": "a function for each enabled member; calls come back with `toolset_name`",
    "browser_toolset_": "a function for each enabled member; calls come back with `toolset_name`",
    "tool_search_tool_": "left out: deferred tools are all offered from the start",
    "web_search_": (
        "only Anthropic runs it: left out, told to the model and in a response header; alone: "
        "refused"
    ),
    "web_fetch_": (
        "only Anthropic runs it: left out, told to the model and in a response header; alone: "
        "refused"
    ),
    "code_execution_": (
        "only Anthropic runs it: left out, told to the model and in a response header; alone: "
        "refused"
    ),
    "advisor_": (
        "only Anthropic runs it: left out, told to the model and in a response header; alone: "
        "refused"
    ),
    "mcp_toolset": (
        "only Anthropic connects to it: left out, told to the model and in a response header; "
        "alone: refused"
    ),
}

# Content blocks of responses, by type.
RESPONSE_BLOCKS: Mapping[str, str] = {
    "thinking": (
        "`reasoning_content`, `reasoning`, `reasoning_details`, thinking parts of the content, "
        "`<think>` in the "
        "text; only when `thinking` asks for it"
    ),
    "redacted_thinking": "reasoning that comes encrypted alone",
    "text": "`content`; where a format was asked for, the bare JSON document; `refusal`",
    "tool_use": (
        "`tool_calls`, the old `function_call`, and calls that a model wrote as text; broken "
        "arguments are "
        "repaired where that is sure, else kept under `INVALID_JSON`"
    ),
    "compaction": "a summary that the upstream was asked for",
}

# Stop reasons, and their causes besides the finish reasons in STOP_REASONS.
STOP_REASON_NOTES: Mapping[str, str] = {
    "end_turn": "any finish reason that is not listed, without a tool call",
    "tool_use": "any answer with a tool call that is not cut or refused",
    "stop_sequence": "found by the proxy, which stops the upstream there",
    "max_tokens": "",
    "model_context_window_exceeded": "`length` at the end of the context, once its size is known",
    "refusal": "a `refusal` in the answer",
    "compaction": "a request for a summary alone",
    "pause_turn": "never: no server tool runs here",
}

_HEAD = """# Compatibility

The translation of each part of the Messages API for an OpenAI-compatible server, and back.
`make docs` writes this page from the tables of the source, and a test compares it with the official
SDK's types.
Fields and blocks that are not listed are never rejected: a field is omitted, a user's block is sent
as JSON for the model to read.
[upstreams.md](upstreams.md) describes the differences between kinds of upstreams.
"""


ENDPOINTS: Mapping[str, str] = {
    "POST /v1/messages": "answered",
    "POST /v1/messages/count_tokens": "answered; see the README",
    "GET /v1/models": "answered, also `/v1/models/{id}`",
    "/v1/messages/batches": "404: there is no Message Batches API here",
    "/v1/files": "404: there is no Files API here",
    "/v1/complete": "404: there is no Text Completions API here",
}


def render_page() -> str:
    """Return the page in Markdown."""
    sections = (
        _render_table("Endpoints", ("Path", "What becomes of it"), _code_rows(ENDPOINTS)),
        _render_table(
            "Fields of requests", ("Field", "What becomes of it"), _code_rows(REQUEST_FIELDS)
        ),
        _render_table(
            "Content blocks of requests",
            ("Block", "What becomes of it"),
            _code_rows(REQUEST_BLOCKS),
        ),
        _render_table(
            "Tools",
            ("Type", "What becomes of it"),
            ((f"`{name}{_wildcard(name)}`", text) for name, text in TOOLS.items()),
        ),
        _render_table(
            "Content blocks of answers",
            ("Block", "What it is made of"),
            _code_rows(RESPONSE_BLOCKS),
        ),
        _render_table(
            "Stop reasons", ("Stop reason", "Finish reasons", "Also"), _stop_reason_rows()
        ),
        _render_table(
            "Errors",
            ("Status", "Type"),
            ((str(status), f"`{kind}`") for status, kind in TYPE_BY_STATUS.items()),
        ),
    )
    return "\n".join([_HEAD, *sections])


def _render_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [_render_row(columns), _render_row("---" for _ in columns), *map(_render_row, rows)]
    return "\n".join([f"## {title}", "", *lines, ""])


def _render_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code_rows(table: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return ((f"`{name}`", text) for name, text in table.items())


def _wildcard(name: str) -> str:
    return "*" if name.endswith("_") else ""


def _stop_reason_rows() -> Iterable[tuple[str, str, str]]:
    for stop_reason, also in STOP_REASON_NOTES.items():
        words = (f"`{word}`" for word, reason in STOP_REASONS.items() if reason == stop_reason)
        yield f"`{stop_reason}`", ", ".join(words), also


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output
