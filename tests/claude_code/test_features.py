"""Thinking, MCP tools, subagents, structured output, web search and a resumed conversation."""

import json
import sys
from pathlib import Path

import pytest

from tests.claude_code import mcp_server
from tests.claude_code.accents import Said, call
from tests.claude_code.conftest import StartScene
from tests.claude_code.strict_upstream import Conversation

STREAM_JSON = ("--output-format", "stream-json", "--verbose")


THOUGHT = "A file may help."
_DETAIL = {"type": "reasoning.text", "text": THOUGHT, "index": 0, "format": "unknown"}


@pytest.mark.parametrize(
    ("accent", "name", "value"),
    [
        ("reasoning_content", "reasoning_content", THOUGHT),
        ("details-comments", "reasoning_details", [_DETAIL]),
    ],
    ids=["reasoning_content", "reasoning_details"],
)
def test_thinking(scene: StartScene, accent: str, name: str, value: object) -> None:
    """It is shown, and goes back to the upstream in the field that it came in."""

    def script(asked: Conversation) -> Said:
        if not asked.results:
            return Said(
                "Looking.", THOUGHT, (("Bash", {"command": "ls", "description": "List the files"}),)
            )
        return Said("There is nothing.", "An empty folder, then.")

    started = scene(script, accent, (name,))
    outcome = started.claude("Is there anything?", *STREAM_JSON)
    thoughts = [block["thinking"] for block in outcome.blocks if block["type"] == "thinking"]
    assert thoughts == [THOUGHT, "An empty folder, then."]
    assert outcome.result["result"] == "There is nothing."
    replayed = next(
        message for message in started.bodies[1]["messages"] if message["role"] == "assistant"
    )
    assert (replayed["content"], replayed[name]) == ("Looking.", value)


def mcp_config(folder: Path) -> str:
    server = {"command": sys.executable, "args": [mcp_server.__file__]}
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"numbers": server}}))
    return str(file)


@pytest.mark.parametrize("deferred", [False, True], ids=["inline", "found-by-search"])
def test_a_long_tool_name(scene: StartScene, *, deferred: bool) -> None:
    """Names over 64 characters are the client's own again when they come back to it."""
    full = f"mcp__numbers__{mcp_server.TOOL}"

    def script(asked: Conversation) -> Said:
        if any("the sum is 42" in each for each in asked.results):
            return Said("42")
        short = [name for name in asked.tools if name.startswith("mcp__numbers")]
        if short:
            assert all(len(name) <= 64 for name in short)
            return call(short[0], a=40, b=2)
        assert deferred
        return call("ToolSearch", query=f"select:{full}", max_results=1)

    started = scene(script)
    config = mcp_config(started.home)
    search = {} if deferred else {"ENABLE_TOOL_SEARCH": "false"}
    outcome = started.claude("Add 40 and 2", "--mcp-config", config, *STREAM_JSON, **search)
    assert outcome.result["result"] == "42"
    used = [block for block in outcome.blocks if block["type"] == "tool_use"]
    assert [block["name"] for block in used] == [*(["ToolSearch"] if deferred else []), full]
    assert used[-1]["input"] == {"a": 40, "b": 2}


def test_subagent(scene: StartScene) -> None:
    """It has a separate conversation, whose outcome comes back into the first one."""

    def script(asked: Conversation) -> Said:
        if "Count the files, please" in str(asked.body["messages"][1]):
            return (
                Said("I counted: three files")
                if asked.results
                else call("Bash", command="ls | wc -l", description="Count")
            )
        if "I counted: three files" in asked.text:
            return Said("Three, says the agent")
        if asked.results:
            return Said("Waiting for it.")
        return call(
            "Agent",
            description="Count files",
            prompt="Count the files, please",
            subagent_type="general-purpose",
        )

    started = scene(script)
    outcome = started.claude("Let an agent count the files")
    assert outcome.result["result"] == "Three, says the agent"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("first", ["call", "text"])
def test_json_schema(scene: StartScene, first: str) -> None:
    def script(asked: Conversation) -> Said:
        if asked.results:
            return Said("Done")
        if asked.number == 1 and first == "text":
            return Said("Ann is 44.")
        return call("StructuredOutput", name="Ann", age=44)

    started = scene(script)
    outcome = started.claude("Who is it?", "--json-schema", json.dumps(SCHEMA))
    assert outcome.result["structured_output"] == {"name": "Ann", "age": 44}


def test_web_search(scene: StartScene) -> None:
    """A tool that only Anthropic can run: the tool's result says so, and the model continues."""

    def script(asked: Conversation) -> Said:
        if asked.results:
            return Said("I can't search the web")
        if "WebSearch" in asked.tools:
            return call("WebSearch", query="weather in Paris")
        raise AssertionError("the side request went upstream")

    started = scene(script)
    assert (
        started.claude("Search the web", ENABLE_TOOL_SEARCH="false").result["result"]
        == "I can't search the web"
    )
    assert "runs on Anthropic's servers" in started.bodies[-1]["messages"][-1]["content"]


MODELS = [
    "default",
    "sonnet[1m]",
    "claude-sonnet-4-5",
    "claude-opus-4-6",
    "claude-3-5-haiku",
    "vendor/some-model:free",
]


@pytest.mark.parametrize("model", MODELS)
def test_model_names(scene: StartScene, model: str) -> None:
    """The fields of a request depend on the name: limits, thinking, effort, system messages in the
    conversation.
    """
    started = scene(
        lambda asked: (
            Said("Done") if asked.results else call("Bash", command="ls", description="List")
        )
    )
    assert started.claude("List the files", "--model", model).result["result"] == "Done"
    assert len(started.bodies) == 2


def test_counting(scene: StartScene) -> None:
    """The command asks for many counts at once; the upstream is not asked for any."""
    started = scene(lambda _: Said("unasked"))
    assert "**Tokens:**" in started.claude("/context").result["result"]
    assert started.bodies == []
    assert "error" not in started.log.read_text()


def test_the_conversation_is_taken_up(scene: StartScene) -> None:
    """Its beginning goes upstream as before, so that a prefix cache still holds."""

    def script(asked: Conversation) -> Said:
        if asked.number == 1:
            return Said(
                "Looking.", calls=(("Bash", {"command": "ls", "description": "List the files"}),)
            )
        return Said(f"Answer {asked.number}")

    started = scene(script)
    assert started.claude("Begin").result["result"] == "Answer 2"
    assert started.claude("Go on", "--continue").result["result"] == "Answer 3"
    before, after = started.bodies[1]["messages"], started.bodies[2]["messages"]
    assert after[0] == before[0]
    assert after[: len(before)] == before
    assert after[len(before)] == {"role": "assistant", "content": "Answer 2"}
    assert "Go on" in str(after[-1])
