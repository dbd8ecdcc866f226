"""Tools that Anthropic defines, validated strictly and run by the official SDK."""

import base64
from typing import Any

import anthropic
import pytest
from anthropic.lib.tools import BetaAbstractMemoryTool
from anthropic.tools.computer import BetaAbstractComputerToolset20260801, BetaScreenshotResult
from anthropic.types.beta import BetaBrowserToolUseBlock, BetaComputerToolUseBlock, BetaToolUseBlock
from pydantic import TypeAdapter

from tests.integration.sdk.requests import ASK, TOOL, tool_chunks
from tests.support.scripted_upstream import (
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

PICTURE = base64.b64encode(b"PNG").decode()


def calling(name: str, arguments: str) -> dict[str, Any]:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    ]
    return completion(None, message={"tool_calls": calls}, finish_reason="tool_calls")


TYPED: list[Any] = [
    ({"type": "bash_20250124", "name": "bash"}, '{"command":"ls"}'),
    ({"type": "bash_20241022", "name": "bash"}, '{"restart":true}'),
    (
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        '{"command":"view","path":"/a"}',
    ),
    (
        {"type": "text_editor_20241022", "name": "str_replace_editor"},
        '{"command":"undo_edit","path":"/a"}',
    ),
    ({"type": "memory_20250818", "name": "memory"}, '{"command":"delete","path":"/memories/a"}'),
    (
        {
            "type": "computer_20251124",
            "name": "computer",
            "display_width_px": 1024,
            "display_height_px": 768,
        },
        '{"action":"left_click","coordinate":[1,2]}',
    ),
]


@pytest.mark.parametrize(
    ("tool", "arguments"), TYPED, ids=lambda value: value["type"] if isinstance(value, dict) else ""
)
def test_typed_tools(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, tool: Any, arguments: str
) -> None:
    """They go out as functions, and come back as ordinary calls, streamed and whole."""
    upstream.then(
        streams(tool_chunks((tool["name"], arguments))), answers(calling(tool["name"], arguments))
    )
    with client.beta.messages.stream(**ASK, tools=[tool]) as stream:
        streamed = stream.get_final_message()
    whole = client.beta.messages.create(**ASK, tools=[tool])
    blocks = [message.content[-1].to_dict() for message in (streamed, whole)]
    assert {block.pop("id") for block in blocks}.isdisjoint({"call_0", "call_1"})
    assert blocks[0] == blocks[1]
    assert blocks[0].keys() == {"type", "name", "input"}
    assert (
        blocks[0]["name"] == upstream.request().body["tools"][0]["function"]["name"] == tool["name"]
    )


TOOLSETS: list[Any] = [
    ("computer", "left_click", '{"coordinate":[1,2],"text":"ctrl"}'),
    ("computer", "screenshot", "{}"),
    ("browser", "left_click", '{"target":{"type":"ref","ref":"ref_1"}}'),
    (
        "browser",
        "left_click_drag",
        '{"from":{"type":"coordinate","x":1,"y":2},"target":{"type":"coordinate","x":3,"y":4}}',
    ),
    ("browser", "list_tabs", ""),
]

# What the SDK's runners read such calls as; the unions of its messages don't look that close.
MEMBERS: dict[str, TypeAdapter[Any]] = {
    "computer": TypeAdapter(BetaComputerToolUseBlock),
    "browser": TypeAdapter(BetaBrowserToolUseBlock),
}


@pytest.mark.parametrize(("toolset", "member", "arguments"), TOOLSETS)
def test_toolsets(
    client: anthropic.Anthropic,
    upstream: ScriptedUpstream,
    toolset: str,
    member: str,
    arguments: str,
) -> None:
    """Calls of members name their toolset, pass the SDK's types, and return upstream unchanged."""
    tools: Any = [{"type": "computer_toolset_20260801"}, {"type": "browser_toolset_20260801"}, TOOL]
    name = f"{toolset}__{member}"
    upstream.then(
        streams(tool_chunks((name, arguments))),
        answers(calling(name, arguments)),
        answers(completion("Done")),
    )
    with client.beta.messages.stream(**ASK, tools=tools) as stream:
        streamed = stream.get_final_message().content[-1]
    whole = client.beta.messages.create(**ASK, tools=tools).content[-1]
    for block in (streamed, whole):
        assert isinstance(block, BetaToolUseBlock)
        assert (block.name, block.toolset_name, block.caller and block.caller.type) == (
            member,
            toolset,
            "direct",
        )
        assert MEMBERS[toolset].validate_python(block.to_dict()).name == member
    assert streamed.to_dict().get("input") == whole.to_dict().get("input")
    result: Any = {
        "type": "tool_result",
        "tool_use_id": whole.to_dict()["id"],
        "toolset_name": toolset,
        "content": "ok",
    }
    replay: Any = [{"role": "assistant", "content": [whole]}, {"role": "user", "content": [result]}]
    client.beta.messages.create(**{**ASK, "messages": [*ASK["messages"], *replay]}, tools=tools)
    sent = [upstream.request().body for _ in range(3)]
    call = sent[2]["messages"][1]["tool_calls"][0]
    assert call["function"] == {"name": name, "arguments": arguments or "{}"}
    assert sent[2]["messages"][2] == {"role": "tool", "tool_call_id": call["id"], "content": "ok"}


class Screen(BetaAbstractComputerToolset20260801):
    """A computer that can only take pictures."""

    def screenshot(self, *_: Any) -> BetaScreenshotResult:
        return BetaScreenshotResult(data=PICTURE)


class Notebook(BetaAbstractMemoryTool):
    """A memory that only writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def _note(self, command: Any) -> str:
        self.asked.append(command.to_dict())
        return "noted"

    view = create = str_replace = insert = delete = rename = _note


def test_the_sdk_runs_a_toolset(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(calling("computer__screenshot", "{}")), answers(completion("A desktop")))
    runner = client.beta.messages.tool_runner(**ASK, tools=[Screen()])
    assert runner.until_done().content[0].to_dict()["text"] == "A desktop"
    first, second = upstream.request().body, upstream.request().body
    assert [tool["function"]["name"] for tool in first["tools"]] == ["computer__screenshot"]
    assert (
        second["messages"][-1]["content"][-1]["image_url"]["url"]
        == f"data:image/png;base64,{PICTURE}"
    )


def test_the_sdk_runs_the_memory_tool(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    command = '{"command":"insert","path":"/memories/a","insert_line":0,"insert_text":"x"}'
    upstream.then(answers(calling("memory", command)), answers(completion("Done")))
    memory = Notebook()
    client.beta.messages.tool_runner(**ASK, tools=[memory]).until_done()
    assert memory.asked == [
        {"command": "insert", "path": "/memories/a", "insert_line": 0, "insert_text": "x"}
    ]
    assert [upstream.request().body["messages"][-1]["content"] for _ in range(2)] == ["Hi", "noted"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "linear"}]}, "MCP server linear"),
        (
            {"mcp_servers": [{"type": "url", "name": "linear", "url": "https://example.com"}]},
            "MCP server linear",
        ),
        (
            {"container": {"skills": [{"type": "anthropic", "skill_id": "pdf"}]}, "tools": [TOOL]},
            "container.skills",
        ),
        ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    ],
)
def test_what_cannot_be_served_is_refused(
    client: anthropic.Anthropic, fields: Any, words: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=words) as caught:
        client.beta.messages.create(**ASK, **fields)
    assert caught.value.type == "invalid_request_error"


def test_server_tools_beside_client_tools(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.then(streams(text_chunks("I can't search.")))
    tools: Any = [{"type": "web_search_20260318", "name": "web_search"}, TOOL]
    with client.beta.messages.stream(**ASK, tools=tools) as stream:
        assert stream.response.headers["anthropic-proxy-unavailable-tools"] == "web_search"
        assert stream.get_final_text() == "I can't search."
    sent = upstream.request().body
    assert "not available in this session: web_search." in sent["messages"][0]["content"]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_weather"]
