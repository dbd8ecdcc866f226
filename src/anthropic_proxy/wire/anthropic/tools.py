"""Request models of tools, and of blocks that change the tools in a conversation (see request.py).

The dated type of a tool determines its other fields. They are not validated here; translate/request
(tools.py, builtin_tools.py, toolsets.py) accepts any value.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypedDict

from anthropic_proxy.wire.anthropic.unions import ALLOW_EXTRA, Items, discriminate_by_type
from anthropic_proxy.wire.json_codec import JsonObject


@ALLOW_EXTRA
class CustomTool(TypedDict):
    name: Annotated[str, Field(min_length=1)]
    input_schema: JsonObject
    type: NotRequired[Literal["custom"] | None]
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]
    allowed_callers: NotRequired[Items[str] | None]


@ALLOW_EXTRA
class TypedTool(TypedDict):
    """A tool that Anthropic defines, with a dated type instead of a schema."""

    type: Annotated[str, Field(min_length=1)]
    name: NotRequired[str | None]
    description: NotRequired[str | None]
    mcp_server_name: NotRequired[str | None]
    allowed_callers: NotRequired[Items[str] | None]


def _tool_tag(tool: Any) -> str:
    is_typed = isinstance(tool, dict) and tool.get("type") not in (None, "custom")
    return "typed" if is_typed else "custom"


Tool = Annotated[
    Annotated[CustomTool, Tag("custom")] | Annotated[TypedTool, Tag("typed")],
    Discriminator(_tool_tag),
]


@ALLOW_EXTRA
class ToolDefinition(TypedDict):
    type: Literal["tool_definition"]
    definition: Tool


@ALLOW_EXTRA
class ToolReference(TypedDict):
    type: Literal["tool_reference"]
    name: str


@ALLOW_EXTRA
class OtherToolReference(TypedDict):
    """A reference to a tool of an MCP server, or to all of its tools."""

    type: str


# Types of blocks in system messages that change the tools. They are not content for the model.
TOOL_CHANGE_TYPES = ("tool_addition", "tool_removal")


@ALLOW_EXTRA
class ToolChangeBlock(TypedDict):
    type: Literal["tool_addition", "tool_removal"]
    tool: Annotated[
        Annotated[ToolDefinition, Tag("tool_definition")]
        | Annotated[ToolReference, Tag("tool_reference")]
        | Annotated[OtherToolReference, Tag("other_reference")],
        discriminate_by_type(("tool_definition", "tool_reference"), "other_reference"),
    ]


@ALLOW_EXTRA
class McpServer(TypedDict):
    name: str


@ALLOW_EXTRA
class ToolChoice(TypedDict):
    type: Literal["auto", "any", "tool", "none"]
    name: NotRequired[str]
    disable_parallel_tool_use: NotRequired[bool | None]
