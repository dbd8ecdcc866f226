"""Content of messages: the blocks that the proxy reads, by their types, and room for any other.

Part of the request models; see wire/anthropic.py.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypedDict

from anthropic_proxy.wire.anthropic.tools import ToolChangeBlock
from anthropic_proxy.wire.anthropic.unions import OPEN, Items, by_type
from anthropic_proxy.wire.json_codec import JsonObject


@OPEN
class TextBlock(TypedDict):
    type: Literal["text"]
    text: str


@OPEN
class Base64Source(TypedDict):
    type: Literal["base64"]
    media_type: str
    data: str


@OPEN
class UrlSource(TypedDict):
    type: Literal["url"]
    url: str


@OPEN
class FileSource(TypedDict):
    type: Literal["file"]
    file_id: str


@OPEN
class TextSource(TypedDict):
    type: Literal["text"]
    data: str


@OPEN
class ContentSource(TypedDict):
    type: Literal["content"]
    content: "Content"


@OPEN
class ImageBlock(TypedDict):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


@OPEN
class DocumentBlock(TypedDict):
    type: Literal["document"]
    source: Annotated[
        Base64Source | UrlSource | FileSource | TextSource | ContentSource,
        Field(discriminator="type"),
    ]
    title: NotRequired[str | None]
    context: NotRequired[str | None]


@OPEN
class SearchResultBlock(TypedDict):
    type: Literal["search_result"]
    source: str
    title: str
    content: Items[TextBlock]


@OPEN
class ThinkingBlock(TypedDict):
    type: Literal["thinking"]
    thinking: str
    signature: NotRequired[str | None]


@OPEN
class RedactedThinkingBlock(TypedDict):
    type: Literal["redacted_thinking"]
    data: NotRequired[str | None]


@OPEN
class ToolUseBlock(TypedDict):
    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: JsonObject
    toolset_name: NotRequired[str | None]


@OPEN
class ToolReferenceBlock(TypedDict):
    type: Literal["tool_reference"]
    tool_name: str


@OPEN
class ToolResultBlock(TypedDict):
    type: Literal["tool_result"]
    tool_use_id: str
    content: NotRequired["Content | None"]
    is_error: NotRequired[bool | None]


@OPEN
class BrowserTab(TypedDict):
    tab_id: str
    title: str
    url: str
    active: NotRequired[bool | None]


@OPEN
class BrowserChange(TypedDict):
    type: str


@OPEN
class BrowserStateBlock(TypedDict):
    type: Literal["browser_state"]
    tabs: Items[BrowserTab]
    state_changes: NotRequired[Items[BrowserChange] | None]


@OPEN
class McpToolResultBlock(TypedDict):
    type: Literal["mcp_tool_result"]
    content: NotRequired["Content | None"]
    is_error: NotRequired[bool | None]


@OPEN
class CompactionBlock(TypedDict):
    type: Literal["compaction"]
    content: NotRequired[str | None]
    tool_changes: NotRequired["Items[Block] | None"]


@OPEN
class OtherBlock(TypedDict):
    """A block that the proxy reads leniently, or doesn't know."""

    type: str


_KNOWN_BLOCKS = {
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_reference",
    "tool_result",
    "tool_addition",
    "tool_removal",
    "browser_state",
    "mcp_tool_result",
    "compaction",
}


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[SearchResultBlock, Tag("search_result")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolReferenceBlock, Tag("tool_reference")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[ToolChangeBlock, Tag("tool_addition")]
    | Annotated[ToolChangeBlock, Tag("tool_removal")]
    | Annotated[BrowserStateBlock, Tag("browser_state")]
    | Annotated[McpToolResultBlock, Tag("mcp_tool_result")]
    | Annotated[CompactionBlock, Tag("compaction")]
    | Annotated[OtherBlock, Tag("other")],
    by_type(_KNOWN_BLOCKS),
]


def _content_tag(content: Any) -> str:
    return "string" if isinstance(content, str) else "blocks"


Content = Annotated[
    Annotated[str, Tag("string")] | Annotated[Items[Block], Tag("blocks")],
    Discriminator(_content_tag),
]
