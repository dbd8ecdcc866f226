"""The door: what is let in untouched, and in which words everything else is refused."""

import json
import re
from typing import Any

import pytest

from anthropic_proxy.wire.anthropic.request import (
    NOTHING_TO_SUMMARIZE,
    InvalidRequestError,
    parse_count_tokens_body,
    parse_count_tokens_request,
    parse_messages_body,
    parse_messages_request,
)

_BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 1,
    "messages": [{"role": "user", "content": "hi"}],
}
_NOT_JSON = "The request body is not valid JSON: "
_NO_OBJECT = "The request body is not an object: Input should be an object"
_IN_BLOCK = "messages.0.content.0"
_SOURCES = "does not match any of the expected tags:"
_REFERENCE = ".tool.tool_reference"
_TEXT = {"type": "text", "text": "x"}
_URL = {"type": "url", "url": "https://example.com/a.png"}
_BASE64 = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
_NULLABLE = (
    "system",
    "tools",
    "tool_choice",
    "mcp_servers",
    "thinking",
    "output_config",
    "metadata",
    "stream",
    "stop_sequences",
    "top_p",
    "top_k",
    "context_management",
    "compaction",
    "service_tier",
    "speed",
    "diagnostics",
)
_TOOL = {"name": "f", "input_schema": {"type": "object"}}


def _checked(body: Any) -> Any:
    return parse_messages_request(json.dumps(body).encode())


def _refusal(raw: bytes) -> str:
    with pytest.raises(InvalidRequestError) as raised:
        parse_messages_request(raw)
    return str(raised.value)


def _with_block(block: Any) -> dict[str, Any]:
    return _BODY | {"messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param(b"", _NOT_JSON + "EOF while parsing a value at line 1 column 0", id="nothing"),
        pytest.param(b"{", _NOT_JSON + "EOF while parsing an object at line 1 column 1", id="cut"),
        pytest.param(b"{bad", _NOT_JSON + "key must be a string at line 1 column 2", id="unquoted"),
        pytest.param(
            b'{"model":1} x',
            _NOT_JSON + "trailing characters at line 1 column 13",
            id="more-after-it",
        ),
        pytest.param(b"null", _NO_OBJECT, id="null"),
        pytest.param(b"[]", _NO_OBJECT, id="list"),
        pytest.param(b'"x"', _NO_OBJECT, id="string"),
        pytest.param(
            b"{}",
            "model: Field required; messages: Field required; max_tokens: Field required",
            id="empty",
        ),
    ],
)
def test_no_request_at_all(raw: bytes, text: str) -> None:
    assert _refusal(raw) == text


def test_a_body_that_is_no_utf_8() -> None:
    """Versions of pydantic count the column differently."""
    text = _refusal(b'{"model":"\xff"}')
    assert re.fullmatch(_NOT_JSON + r"invalid unicode code point at line 1 column 1[12]", text)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("model", "", "model: String should have at least 1 character"),
        ("model", None, "model: Input should be a valid string"),
        ("max_tokens", -1, "max_tokens: Input should be greater than or equal to 0"),
        (
            "max_tokens",
            1.5,
            "max_tokens: Input should be a valid integer, got a number with a fractional part",
        ),
        ("max_tokens", None, "max_tokens: Input should be a valid integer"),
        ("messages", [], "messages: at least one message is required"),
        ("messages", None, "messages: Input should be a valid array"),
        ("messages", {}, "messages: Input should be a valid array"),
        ("messages", [1], "messages.0: Input should be an object"),
        ("messages", [{}], "messages.0.role: Field required; messages.0.content: Field required"),
        ("messages", [{"role": "user"}], "messages.0.content: Field required"),
        (
            "messages",
            [{"role": "user", "content": None}],
            "messages.0.content: Input should be a valid array",
        ),
        (
            "messages",
            [{"role": "user", "content": {}}],
            "messages.0.content: Input should be a valid array",
        ),
        (
            "messages",
            [{"role": "user", "content": ["x"]}],
            "messages.0.content.0: Input should be an object",
        ),
        (
            "messages",
            [{"role": "user", "content": [{}]}],
            "messages.0.content.0.type: Field required",
        ),
        (
            "messages",
            [{"role": "a", "content": ""}],
            "messages.0.role: Input should be 'user', 'assistant' or 'system'",
        ),
        (
            "messages",
            [{"role": "system", "content": 1}],
            "messages.0.content: Input should be a valid array",
        ),
        ("system", 1, "system: Input should be a valid array"),
        ("system", _TEXT, "system: Input should be a valid array"),
        ("system", [{"type": "text"}], "system.0.text.text: Field required"),
        ("stream", "x", "stream: Input should be a valid boolean, unable to interpret input"),
        ("stop_sequences", "x", "stop_sequences: Input should be a valid array"),
        ("stop_sequences", ["a", ""], "stop_sequences.1: String should have at least 1 character"),
        ("stop_sequences", [1], "stop_sequences.0: Input should be a valid string"),
        (
            "stop_sequences",
            ["a" * 16_384, "b"],
            "stop_sequences: all sequences together may have at most 16384 characters",
        ),
        ("temperature", 1.1, "temperature: Input should be less than or equal to 1"),
        ("temperature", -0.1, "temperature: Input should be greater than or equal to 0"),
        ("top_p", 2, "top_p: Input should be less than or equal to 1"),
        ("top_p", -1, "top_p: Input should be greater than or equal to 0"),
        ("top_k", -1, "top_k: Input should be greater than or equal to 0"),
        ("tools", {}, "tools: Input should be a valid array"),
        ("tools", [1], "tools.0.custom: Input should be an object"),
        (
            "tools",
            [{}],
            "tools.0.custom.name: Field required; tools.0.custom.input_schema: Field required",
        ),
        ("tools", [_TOOL, {"name": "g"}], "tools.1.custom.input_schema: Field required"),
        (
            "tools",
            [_TOOL | {"name": ""}],
            "tools.0.custom.name: String should have at least 1 character",
        ),
        (
            "tools",
            [_TOOL | {"input_schema": []}],
            "tools.0.custom.input_schema: Input should be an object",
        ),
        (
            "tools",
            [_TOOL | {"description": 1}],
            "tools.0.custom.description: Input should be a valid string",
        ),
        ("tools", [{"type": 1, "name": "x"}], "tools.0.type: Input should be a valid string"),
        (
            "tools",
            [{"type": "", "name": "x"}],
            "tools.0.type: String should have at least 1 character",
        ),
        (
            "tools",
            [{"type": "bash_20250124", "name": 1}],
            "tools.0.name: Input should be a valid string",
        ),
        (
            "tools",
            [{"type": "of_next_month", "description": 1}],
            "tools.0.description: Input should be a valid string",
        ),
        (
            "tools",
            [_TOOL | {"allowed_callers": "direct"}],
            "tools.0.custom.allowed_callers: Input should be a valid array",
        ),
        ("mcp_servers", [{"type": "url"}], "mcp_servers.0.name: Field required"),
        ("tool_choice", "auto", "tool_choice: Input should be an object"),
        ("tool_choice", {}, "tool_choice.type: Field required"),
        (
            "tool_choice",
            {"type": "x"},
            "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'",
        ),
        (
            "tool_choice",
            {"type": "tool", "name": 1},
            "tool_choice.name: Input should be a valid string",
        ),
        ("thinking", True, "thinking: Input should be an object"),
        ("thinking", {}, "thinking.type: Field required"),
        ("output_config", {"effort": 1}, "output_config.effort: Input should be a valid string"),
        (
            "output_config",
            {"format": {"type": "x", "schema": {}}},
            "output_config.format.type: Input should be 'json_schema'",
        ),
        (
            "output_config",
            {"format": {"type": "json_schema"}},
            "output_config.format.schema: Field required",
        ),
        ("metadata", [], "metadata: Input should be an object"),
        ("metadata", {"user_id": 1}, "metadata.user_id: Input should be a valid string"),
        # Only the first problem of a list is looked for.
        ("messages", [1, 2, 3], "messages.0: Input should be an object"),
        (
            "stop_sequences",
            ["", "", ""],
            "stop_sequences.0: String should have at least 1 character",
        ),
        (
            "context_management",
            {"edits": [{"type": "of_next_month"}] * 11},
            "context_management.edits: List should have at most 10 items after validation, not 11",
        ),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any, text: str) -> None:
    assert _refusal(json.dumps(_BODY | {field: value}).encode()) == text


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (1, ": Input should be an object"),
        ({"type": 1}, ".type: Input should be a valid string"),
        ({"type": "text"}, ".text.text: Field required"),
        ({"type": "text", "text": None}, ".text.text: Input should be a valid string"),
        (
            {"type": "redacted_thinking", "data": 1},
            ".redacted_thinking.data: Input should be a valid string",
        ),
        ({"type": "image"}, ".image.source: Field required"),
        ({"type": "image", "source": 1}, ".image.source: Input should be an object"),
        (
            {"type": "image", "source": {}},
            ".image.source: Unable to extract tag using discriminator 'type'",
        ),
        (
            {"type": "image", "source": {"type": "text"}},
            (
                f".image.source: Input tag 'text' found using 'type' {_SOURCES} "
                "'base64', 'url', 'file'"
            ),
        ),
        (
            {"type": "image", "source": {"type": "base64", "data": ""}},
            ".image.source.base64.media_type: Field required",
        ),
        ({"type": "image", "source": {"type": "url"}}, ".image.source.url.url: Field required"),
        (
            {"type": "image", "source": {"type": "file"}},
            ".image.source.file.file_id: Field required",
        ),
        (
            {"type": "document", "source": {"type": "x"}},
            (
                f".document.source: Input tag 'x' found using 'type' {_SOURCES} "
                "'base64', 'url', 'file', 'text', 'content'"
            ),
        ),
        (
            {"type": "document", "source": {"type": "text"}},
            ".document.source.text.data: Field required",
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text"}]}},
            ".document.source.content.content.0.text.text: Field required",
        ),
        (
            {"type": "document", "source": _URL, "title": 1},
            ".document.title: Input should be a valid string",
        ),
        (
            {"type": "search_result", "source": "", "title": ""},
            ".search_result.content: Field required",
        ),
        (
            {
                "type": "search_result",
                "source": "",
                "title": "",
                "content": [{"type": "image", "text": ""}],
            },
            ".search_result.content.0.type: Input should be 'text'",
        ),
        ({"type": "thinking"}, ".thinking.thinking: Field required"),
        (
            {"type": "tool_use", "id": "", "name": "f", "input": {}},
            ".tool_use.id: String should have at least 1 character",
        ),
        (
            {"type": "tool_use", "id": "1", "name": "", "input": {}},
            ".tool_use.name: String should have at least 1 character",
        ),
        (
            {"type": "tool_use", "id": "1", "name": "f", "input": "{}"},
            ".tool_use.input: Input should be an object",
        ),
        ({"type": "tool_use", "id": "1", "name": "f"}, ".tool_use.input: Field required"),
        ({"type": "tool_addition"}, ".tool_addition.tool: Field required"),
        ({"type": "tool_removal", "tool": {}}, ".tool_removal.tool.type: Field required"),
        (
            {"type": "tool_removal", "tool": {"type": "tool_reference"}},
            f".tool_removal{_REFERENCE}.name: Field required",
        ),
        (
            {
                "type": "tool_addition",
                "tool": {"type": "tool_definition", "definition": {"name": "f"}},
            },
            ".tool_addition.tool.tool_definition.definition.custom.input_schema: Field required",
        ),
        ({"type": "tool_reference"}, ".tool_reference.tool_name: Field required"),
        ({"type": "tool_result"}, ".tool_result.tool_use_id: Field required"),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": 5},
            ".tool_result.content: Input should be a valid array",
        ),
        (
            {
                "type": "tool_result",
                "tool_use_id": "1",
                "content": [_TEXT, {"type": "image", "source": {"type": "url"}}],
            },
            ".tool_result.content.1.image.source.url.url: Field required",
        ),
    ],
)
def test_a_bad_block_is_named(block: Any, text: str) -> None:
    assert _refusal(json.dumps(_with_block(block)).encode()) == _IN_BLOCK + text


def test_no_more_than_three_reasons_are_given() -> None:
    text = _refusal(
        json.dumps(
            _BODY | {"model": 1, "temperature": 9, "top_k": -1, "top_p": 9, "stream": "x"}
        ).encode()
    )
    assert [reason.partition(":")[0] for reason in text.split("; ")] == [
        "model",
        "stream",
        "temperature",
    ]


@pytest.mark.parametrize(
    "block",
    [
        _TEXT | {"cache_control": {"type": "ephemeral"}, "citations": None},
        {"type": "image", "source": _URL, "future": {"a": [1]}},
        {"type": "image", "source": _BASE64 | {"future": 1}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {
            "type": "document",
            "source": _BASE64,
            "title": None,
            "context": "c",
            "citations": {"enabled": True},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "content", "content": "c"}},
        {
            "type": "document",
            "source": {"type": "content", "content": [_TEXT, {"type": "image", "source": _URL}]},
        },
        {"type": "search_result", "source": "s", "title": "t", "content": [_TEXT | {"future": 1}]},
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "thinking", "thinking": "x"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "redacted_thinking"},
        {
            "type": "tool_use",
            "id": "1",
            "name": "f",
            "input": {"a": {"type": "text"}},
            "caller": {"type": "direct"},
        },
        {"type": "tool_use", "id": "1", "name": "wait", "input": {}, "toolset_name": "computer"},
        {
            "type": "tool_addition",
            "tool": {"type": "tool_definition", "definition": _TOOL | {"future": 1}},
        },
        {
            "type": "tool_addition",
            "tool": {"type": "tool_definition", "definition": {"type": "bash_20250124"}},
        },
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f", "future": 1}},
        {"type": "tool_removal", "tool": {"type": "reference of next month", "name": 1}},
        {"type": "tool_reference", "tool_name": "f"},
        {"type": "tool_result", "tool_use_id": "1"},
        {"type": "tool_result", "tool_use_id": "1", "content": None, "is_error": None},
        {"type": "tool_result", "tool_use_id": "1", "content": "x", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "1",
            "content": [_TEXT, {"type": "tool_reference", "tool_name": "f"}],
        },
        {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}},
        {"type": "of next month", "text": 5, "source": [None]},
    ],
    ids=lambda block: block["type"],
)
def test_blocks_pass_untouched(block: dict[str, Any]) -> None:
    assert _checked(_with_block(block)) == _with_block(block)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(
            {"context_management": {"edits": [{"type": "x"}]}, "service_tier": "auto"},
            id="unknown-fields",
        ),
        pytest.param({"max_tokens": 0}, id="no-tokens"),
        pytest.param({"system": "s"}, id="system-string"),
        pytest.param({"system": [_TEXT, {"type": "of next month"}]}, id="system-blocks"),
        pytest.param(
            {"tools": [_TOOL, _TOOL | {"type": "custom", "strict": True, "defer_loading": True}]},
            id="tools",
        ),
        pytest.param({"tools": [_TOOL | {"type": None}]}, id="tool-of-null-type"),
        pytest.param(
            {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]},
            id="typed-tool",
        ),
        pytest.param(
            {
                "tools": [
                    {
                        "type": "computer_toolset_20260801",
                        "configs": {"key": False},
                        "input_schema": 1,
                    }
                ]
            },
            id="toolset",
        ),
        pytest.param(
            {"mcp_servers": [{"type": "url", "name": "x", "url": "u", "future": 1}]},
            id="mcp-servers",
        ),
        pytest.param(
            {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, id="tool-without-name"
        ),
        pytest.param(
            {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
            id="tool-choice",
        ),
        pytest.param({"thinking": {"type": "of next month", "budget_tokens": 1024}}, id="thinking"),
        pytest.param(
            {
                "output_config": {
                    "effort": "of next month",
                    "format": {"type": "json_schema", "schema": {}},
                }
            },
            id="output",
        ),
        pytest.param({"metadata": {"user_id": "u", "future": 1}}, id="metadata"),
        pytest.param(
            {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "stop_sequences": []}, id="bounds"
        ),
        pytest.param(
            dict.fromkeys(_NULLABLE),
            id="nulls",
        ),
        pytest.param({"messages": [{"role": "user", "content": []}]}, id="no-content"),
        pytest.param(
            {"messages": [{"role": "system"}, {"role": "system", "content": "x"}]},
            id="system-messages",
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": "x", "future": 1}]},
            id="message-with-more",
        ),
        pytest.param({"future": 2**70}, id="integer-beyond-64-bits"),
    ],
)
def test_requests_pass_untouched(fields: dict[str, Any]) -> None:
    assert _checked(_BODY | fields) == _BODY | fields


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        pytest.param(rb"a\ud83d", "a\ufffd", id="first-half"),
        pytest.param(rb"\ude00b", "\ufffdb", id="second-half"),
        pytest.param(rb"\ud83d\ude00", "😀", id="pair"),
        pytest.param(rb"\ud83d\ud83d\ude00", "\ufffd😀", id="half-and-pair"),
        pytest.param(b"\xed\xa0\xbd", "\ufffd", id="unescaped-half"),
    ],
)
def test_half_of_a_surrogate_pair_is_replaced(escaped: bytes, text: str) -> None:
    raw = json.dumps(_BODY | {"system": "@", "future": {"@": 1}}).encode().replace(b"@", escaped)
    assert parse_messages_request(raw) == _BODY | {"system": text, "future": {text: 1}}


def test_a_repaired_body_is_checked_as_well() -> None:
    raw = json.dumps(_BODY | {"model": 1}).encode().replace(b"hi", rb"\ud83d")
    assert _refusal(raw) == "model: Input should be a valid string"


@pytest.mark.parametrize(
    "depth", [250, 900, 940, 960, 980, 990, 1_000, 1_023, 5_000, 1_000_000], ids="{}-levels".format
)
def test_deep_nesting_is_refused_and_not_a_crash(depth: int) -> None:
    raw = json.dumps(_BODY | {"future": "@"}).encode().replace(b'"@"', b"[" * depth + b"]" * depth)
    assert _refusal(raw).startswith("The request body is nested too deeply")
    half = raw.replace(b'"future"', b'"half": "\\ud83d", "future"')
    assert _refusal(half).startswith(
        ("The request body is nested too deeply", _NOT_JSON + "unexpected end of hex escape")
    )


def test_nesting_that_tools_have_is_let_in() -> None:
    value: Any = 1
    for _ in range(150):
        value = {"a": [value]} if isinstance(value, int) else {"a": value}
    block = {"type": "tool_use", "id": "1", "name": "f", "input": value}
    assert _checked(_with_block(block)) == _with_block(block)


def test_counting_needs_no_max_tokens() -> None:
    body = {name: value for name, value in _BODY.items() if name != "max_tokens"}
    assert parse_count_tokens_request(json.dumps(body).encode()) == body
    with pytest.raises(InvalidRequestError, match=r"^messages: Field required$"):
        parse_count_tokens_request(b'{"model":"m"}')


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"context_management": {"edits": "all"}},
            "context_management.edits: Input should be a valid array",
        ),
        (
            {"context_management": {"edits": [{"keep": 1}]}},
            "context_management.edits.0.type: Field required",
        ),
        (
            {
                "context_management": {
                    "edits": [
                        {
                            "type": "compact_20260112",
                            "trigger": {"type": "input_tokens", "value": 1},
                        }
                    ]
                }
            },
            (
                "context_management.edits.0.compact_20260112.trigger.value: "
                "Input should be greater than or equal to 50000"
            ),
        ),
        (
            {
                "context_management": {
                    "edits": [
                        {"type": "clear_tool_uses_20250919", "trigger": {"type": "tool_uses"}}
                    ]
                }
            },
            (
                "context_management.edits.0.clear_tool_uses_20250919.trigger.tool_uses.value: "
                "Field required"
            ),
        ),
        ({"compaction": {"type": "shrink"}}, "compaction.type: Input should be 'summarize'"),
        ({"diagnostics": 1}, "diagnostics: Input should be an object"),
    ],
)
def test_context_fields_are_checked(fields: dict[str, Any], text: str) -> None:
    assert _refusal(json.dumps(_BODY | fields).encode()) == text


@pytest.mark.parametrize(
    "keep", ["all", {"type": "all"}, {"type": "thinking_turns", "value": 1}, None]
)
def test_what_clients_send_to_keep_thinking(keep: Any) -> None:
    body = _BODY | {
        "context_management": {
            "edits": [{"type": "clear_thinking_20251015", "keep": keep}, {"type": "new"}]
        }
    }
    assert _checked(body) == body


def test_an_empty_conversation_is_refused_with_the_code_that_belongs_to_it() -> None:
    for fields, details in (
        ({}, None),
        ({"compaction": {"type": "summarize"}}, {"error_code": NOTHING_TO_SUMMARIZE}),
    ):
        with pytest.raises(
            InvalidRequestError, match=r"^messages: at least one message is required$"
        ) as raised:
            parse_messages_request(json.dumps(_BODY | {"messages": []} | fields).encode())
        assert raised.value.details == details


@pytest.mark.parametrize(
    "place", ['"tools":[{"name":"t","input_schema":%s}]', '"metadata":%s', '"x":%s']
)
def test_what_is_nested_deeply(place: str) -> None:
    nested = '{"a":' * 190 + "1" + "}" * 190
    assert (
        parse_messages_request((json.dumps(_BODY)[:-1] + "," + place % nested + "}").encode())[
            "model"
        ]
        == "m"
    )


_CITED = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}
_DOCUMENT = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
}


def _with_turns(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize("version", ["2026-10-21", "2027-01-01", "2026-10-20", "2023-06-01", ""])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"temperature": 0}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 0}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 0}, "top_k: Extra inputs are not permitted"),
        ({"top_k": None}, None),
        (
            _with_turns(("assistant", [_TEXT, _DOCUMENT])),
            "messages.0.content.1: document blocks are not permitted in assistant messages",
        ),
        (_with_turns(("user", [_DOCUMENT]), ("assistant", "x")), None),
        (
            _with_turns(("user", "x"), ("user", [_CITED])),
            "messages.1.content.0.text.citations: Extra inputs are not permitted",
        ),
        (_with_turns(("user", [_TEXT | {"citations": None}])), None),
        (_with_turns(("assistant", [_TEXT | {"citations": []}])), None),
        (
            {"temperature": 0, "top_p": 0, "top_k": 0} | _with_turns(("user", [_CITED])),
            "; ".join(
                f"{name}: Extra inputs are not permitted"
                for name in ("temperature", "top_p", "top_k")
            ),
        ),
    ],
    ids=[
        "temperature",
        "top_p",
        "top_k",
        "null",
        "document of the assistant",
        "document of the user",
        "citations of the user",
        "null citations",
        "citations of the assistant",
        "three problems at most",
    ],
)
def test_what_the_version_removed(fields: Any, problem: str | None, version: str) -> None:
    raw = json.dumps(_BODY | fields).encode()
    if problem is None or version < "2026-10-21":
        assert parse_messages_request(raw, version)
    else:
        with pytest.raises(InvalidRequestError) as raised:
            parse_messages_request(raw, version)
        assert str(raised.value) == problem


@pytest.mark.parametrize("parse", [parse_messages_body, parse_count_tokens_body])
@pytest.mark.parametrize(
    ("fields", "problem", "is_routable"),
    [
        ({}, None, True),
        ({"temperature": 9}, "temperature", True),
        ({"messages": []}, "messages: at least one message is required", True),
        ({"model": 1}, "model: Input should be a valid string", False),
    ],
    ids=["valid", "invalid", "without messages", "without a model"],
)
def test_a_body_is_refused_only_when_it_cannot_be_routed(
    parse: Any, fields: Any, problem: str | None, *, is_routable: bool
) -> None:
    raw = json.dumps(_BODY | fields).encode()
    if fields.get("temperature") and parse is parse_count_tokens_body:
        problem = None
    if not is_routable:
        with pytest.raises(InvalidRequestError, match=problem):
            parse(raw)
        return
    body = parse(raw)
    assert (body.raw, body.request["model"]) == (raw, _BODY["model"])
    assert (body.problem is None) == (problem is None)
    assert (problem or "None") in str(body.problem)


@pytest.mark.parametrize(("length", "shown"), [(400, True), (10_000, False)])
def test_a_problem_quotes_at_most_500_characters(length: int, *, shown: bool) -> None:
    kind = "k" * length
    problem = _refusal(
        json.dumps(_with_block({"type": "image", "source": {"type": kind}})).encode()
    )
    assert (kind in problem) is shown
    if not shown:
        quoted = problem.partition(": ")[2].partition("... (")[0]
        assert len(quoted) == 500
