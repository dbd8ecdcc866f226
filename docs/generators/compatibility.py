"""Generate docs/compatibility.md: the translation of each part of the Messages API.

A test compares the tables with the official SDK's types and with the translation's tables, so that
the page misses neither a new part of the API nor a change of the proxy. `make docs` writes the
page.
"""

from collections.abc import Iterable, Mapping

from anthropic_proxy.errors import TYPE_BY_STATUS
from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.translate.response.stop_reasons import FAILURES, STOP_REASONS

# Errors of upstreams, by their subject: see `translate/upstream_errors`.
UPSTREAM_ERRORS: tuple[tuple[str, str, str, str], ...] = (
    (
        "a prompt that is too long",
        "400, `prompt is too long: ...`",
        "to targets that are not known to be as small",
        "no",
    ),
    ("a refused image", "400, `Could not process image: ...`", "no", "no"),
    (
        "refused content, such as `content_filter` and `misalignment_policy_violation`",
        "400; `refusal` after the first content",
        "no",
        "no",
    ),
    ("other problems of the request", "400 or 413", "no", "no"),
    (
        "a refused key",
        "500 without retries; 401 or 403 for a forwarded client key",
        "yes",
        "5 minutes",
    ),
    ("spent credit, a spend limit", "402 without retries", "yes", "5 minutes"),
    ("a rate limit, an exceeded quota", "429", "yes", "until the end of the wait"),
    ("a model that the upstream does not have", "404", "yes", "no"),
    (
        "a region, legal reasons, a method (403, 405, 451 and similar)",
        "500 without retries",
        "yes",
        "no",
    ),
    ("a failure behind the upstream (400, 424 and similar)", "500", "yes", "no"),
    ("an overload", "529", "yes", "no"),
)

# Content blocks of requests, by type.
REQUEST_BLOCKS: Mapping[str, str] = {
    "text": (
        "text; adjacent texts of a role are joined by blank lines, or stay parts if the upstream "
        "accepts cache marks; empty texts and `citations` are left out"
    ),
    "image": (
        "`image_url`, with the type that the bytes show; the proxy downloads images by URL if the "
        "upstream does not; file ids are rejected"
    ),
    "document": (
        "a PDF becomes a `file` part, or text if the upstream accepts no files; text and content "
        "sources become text with title and context; file ids are rejected"
    ),
    "search_result": "text with title and source",
    "thinking": (
        "reasoning field of the upstream, restored from `signature`; blocks of other servers, and "
        "signed or encrypted blocks of other upstreams, are left out"
    ),
    "redacted_thinking": (
        "encrypted reasoning of the upstream, restored from `data`; blocks of other servers and "
        "upstreams are left out"
    ),
    "tool_use": (
        "`tool_calls`, with valid and unique names and ids; ids of Kimi K2 return as the model "
        "wrote them"
    ),
    "tool_result": (
        "`tool` messages after the calls, in their order; a user message with labels contains "
        "images and files. `is_error` becomes text, a result without a call becomes user text, and "
        "a text replaces a missing result"
    ),
    "tool_reference": "text which states that the tool is loaded; its definition is in `tools`",
    "browser_state": "text with tabs and changes",
    "server_tool_use": "assistant text with the call",
    "web_search_tool_result": "assistant text with titles and URLs, without encrypted content",
    "web_fetch_tool_result": "assistant text with URL and content",
    "code_execution_tool_result": "assistant text with output, errors and return code",
    "bash_code_execution_tool_result": "assistant text with output, errors and return code",
    "text_editor_code_execution_tool_result": "assistant text with the viewed or changed content",
    "tool_search_tool_result": "assistant text with the tools that were found",
    "advisor_tool_result": "assistant text with the advice",
    "mcp_tool_use": "assistant text with the call",
    "mcp_tool_result": "assistant text with the result",
    "mcp_tool_listing": "left out: a list of the tools of an MCP server",
    "fallback": "left out: the name of the model that responded",
    "container_upload": "rejected: the proxy has no files and containers",
    "compaction": (
        "its summary replaces everything before it; a block without a summary is left out"
    ),
    "tool_addition": "in system messages: the tool is offered from then on",
    "tool_removal": "in system messages: the tool is not offered from then on",
}

_SERVER_TOOL = (
    "runs only at Anthropic: left out, and named to the model and in a response header; rejected "
    "if it is the only tool"
)
_TYPED_TOOL = "function with the schema of the type"
_TOOLSET = "function for each enabled member; calls in the response have `toolset_name`"

# Tools, by the beginning of their type.
TOOLS: Mapping[str, str] = {
    "custom": (
        "function; name and schema become valid for the upstream without losing meaning, `strict` "
        "is kept if the schema allows it, and examples and refused keywords become part of the "
        "description. A tool that the upstream refuses is left out, with a note"
    ),
    "bash_": _TYPED_TOOL,
    "text_editor_": _TYPED_TOOL,
    "memory_": _TYPED_TOOL,
    "computer_": f"{_TYPED_TOOL}; the description contains the sizes of the display",
    "computer_toolset_": _TOOLSET,
    "browser_toolset_": _TOOLSET,
    "tool_search_tool_": "left out: all deferred tools are offered from the start",
    "web_search_": _SERVER_TOOL,
    "web_fetch_": _SERVER_TOOL,
    "code_execution_": _SERVER_TOOL,
    "advisor_": _SERVER_TOOL,
    "mcp_toolset": _SERVER_TOOL,
}

# Content blocks of responses, by type.
RESPONSE_BLOCKS: Mapping[str, str] = {
    "thinking": (
        "`reasoning_content`, `reasoning`, `reasoning_details`, LiteLLM's `thinking_blocks`, "
        "Copilot's `reasoning_text`, thinking parts of the content, or `<think>` and the tags of "
        "other models in the text; only if the request enables thinking. Reasoning within a text "
        "follows it before a tool call, and is left out at the end"
    ),
    "redacted_thinking": "encrypted reasoning without a text",
    "text": (
        "`content` or `text`, of a delta, a message or a choice, or only its JSON document if the "
        "request sets a format; `refusal`; the reasoning if there is nothing else and the request "
        "does not enable thinking; a tag such as `<think>` that no tag closes, and the text after "
        "it, if there is nothing else"
    ),
    "tool_use": (
        "`tool_calls` (also without `function`, or with `parameters`), the deprecated "
        "`function_call`, and calls that the model wrote as text; "
        "invalid arguments are repaired if that is unambiguous, else the block contains them as "
        "`INVALID_JSON`; each document in the arguments of a call becomes a call"
    ),
    "compaction": "a summary by the upstream",
}

# Stop reasons, and their causes besides the finish reasons in STOP_REASONS.
STOP_REASON_NOTES: Mapping[str, str] = {
    "end_turn": (
        "any other finish reason, or `[DONE]` alone, without a tool call, unless a word in the "
        "finish reason shows another end (`internal_error`, `length_limit`); an error if the proxy "
        "can read no content of a response with more than three output tokens, or with an unknown "
        "finish reason; an error if a response with an unknown finish reason, or `[DONE]` alone, "
        "contains only reasoning"
    ),
    "tool_use": (
        "a response with a tool call that is not truncated or refused; after another finish "
        "reason or `[DONE]` alone, a call with incomplete arguments is an error, except malformed "
        "arguments whose brackets are closed"
    ),
    "stop_sequence": "found by the proxy, which stops the upstream there",
    "max_tokens": "",
    "model_context_window_exceeded": "`length` at the end of the context, once its size is known",
    "refusal": "`refusal` in the response",
    "compaction": "a request for a summary only",
    "pause_turn": "never: the proxy runs no server tools",
}

_HEAD = """# Compatibility

This page shows how the proxy translates each part of the Messages API for an OpenAI-compatible
server, and back.
[upstreams.md](upstreams.md) describes the differences between kinds of upstreams.

Fields and blocks that are not listed are never rejected.
The proxy forwards such a field if the `extra_fields` of the provider contain it, and omits others.
It sends such a block of a user as JSON, which the model can read.
Finish reasons are compared without regard to case and separators: `MAX_TOKENS` is `max_tokens`.

`make docs` generates this page from the tables of the source, and a test compares it with the types
of the official SDK.
"""


ENDPOINTS: Mapping[str, str] = {
    "POST /v1/messages": "supported",
    "POST /v1/messages/count_tokens": "supported; see [token counting](token-counting.md)",
    "GET /v1/models": "supported, also `/v1/models/{id}`; "
    "[for the pickers of Claude's clients](models.md#claude-ids) with `CLAUDE_MODEL_IDS`",
    "/v1/messages/batches": "404: no Message Batches API",
    "/v1/files": "404: no Files API",
    "/v1/complete": "404: no Text Completions API",
}


def render_page() -> str:
    """Return the page in Markdown."""
    sections = (
        _render_table("Endpoints", ("Path", "Response"), _code_rows(ENDPOINTS)),
        _render_table("Request fields", ("Field", "Translation"), _code_rows(REQUEST_FIELDS)),
        _render_table(
            "Content blocks of requests",
            ("Block", "Translation"),
            _code_rows(REQUEST_BLOCKS),
        ),
        _render_table(
            "Tools",
            ("Type", "Translation"),
            ((f"`{name}{_wildcard(name)}`", text) for name, text in TOOLS.items()),
        ),
        _render_table(
            "Content blocks of responses",
            ("Block", "Source"),
            _code_rows(RESPONSE_BLOCKS),
        ),
        _render_table(
            "Stop reasons", ("Stop reason", "Finish reasons", "Other causes"), _stop_reason_rows()
        ),
        _render_table(
            "Finish reasons of failures",
            ("Status", "Type", "Finish reasons"),
            _failure_rows(),
        ),
        _render_table(
            "Errors",
            ("Status", "Type"),
            ((str(status), f"`{kind}`") for status, kind in TYPE_BY_STATUS.items()),
        ),
        _render_table(
            "Errors of upstreams",
            ("Words and codes of the error", "Status for the client", "Failover", "Key cools down"),
            UPSTREAM_ERRORS,
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


def _failure_rows() -> Iterable[tuple[str, str, str]]:
    for status in sorted(set(FAILURES.values())):
        words = (f"`{word}`" for word, failure in FAILURES.items() if failure == status)
        yield str(status), f"`{TYPE_BY_STATUS[status]}`", ", ".join(words)


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output
