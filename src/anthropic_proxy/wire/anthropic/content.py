"""Request models of message content (see request.py).

There is a model for each block type that the proxy uses, and one for all other types.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypedDict

from anthropic_proxy.wire.anthropic.tools import ToolChangeBlock
from anthropic_proxy.wire.anthropic.unions import ALLOW_EXTRA, Items, discriminate_by_type
from anthropic_proxy.wire.json_codec import JsonObject


@ALLOW_EXTRA
class TextBlock(TypedDict):
    type: Literal["text"]
    text: str


@ALLOW_EXTRA
class Base64Source(TypedDict):
    type: Literal["base64"]
    media_type: str
    data: str


@ALLOW_EXTRA
class UrlSource(TypedDict):
    type: Literal["url"]
    url: str


@ALLOW_EXTRA
class FileSource(TypedDict):
    type: Literal["file"]
    file_id: str


@ALLOW_EXTRA
class TextSource(TypedDict):
    type: Literal["text"]
    data: str


@ALLOW_EXTRA
class ContentSource(TypedDict):
    type: Literal["content"]
    content: "Content"


@ALLOW_EXTRA
class ImageBlock(TypedDict):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


@ALLOW_EXTRA
class DocumentBlock(TypedDict):
    type: Literal["document"]
    source: Annotated[
        Base64Source | UrlSource | FileSource | TextSource | ContentSource,
        Field(discriminator="type"),
    ]
    title: NotRequired[str | None]
    context: NotRequired[str | None]


@ALLOW_EXTRA
class SearchResultBlock(TypedDict):
    type: Literal["search_result"]
    source: str
    title: str
    content: Items[TextBlock]


@ALLOW_EXTRA
class ThinkingBlock(TypedDict):
    type: Literal["thinking"]
    thinking: str
    signature: NotRequired[str | None]


@ALLOW_EXTRA
class RedactedThinkingBlock(TypedDict):
    type: Literal["redacted_thinking"]
    data: NotRequired[str | None]


@ALLOW_EXTRA
class ToolUseBlock(TypedDict):
    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: JsonObject
    toolset_name: NotRequired[str | None]


@ALLOW_EXTRA
class ToolReferenceBlock(TypedDict):
    type: Literal["tool_reference"]
    tool_name: str


@ALLOW_EXTRA
class ToolResultBlock(TypedDict):
    type: Literal["tool_result"]
    tool_use_id: str
    content: NotRequired["Content | None"]
    is_error: NotRequired[bool | None]


@ALLOW_EXTRA
class BrowserTab(TypedDict):
    tab_id: str
    title: str
    url: str
    active: NotRequired[bool | None]


@ALLOW_EXTRA
class BrowserChange(TypedDict):
    type: str


@ALLOW_EXTRA
class BrowserStateBlock(TypedDict):
    type: Literal["browser_state"]
    tabs: Items[BrowserTab]
    state_changes: NotRequired[Items[BrowserChange] | None]


@ALLOW_EXTRA
class McpToolResultBlock(TypedDict):
    type: Literal["mcp_tool_result"]
    content: NotRequired["Content | None"]
    is_error: NotRequired[bool | None]


@ALLOW_EXTRA
class CompactionBlock(TypedDict):
    type: Literal["compaction"]
    content: NotRequired[str | None]
    tool_changes: NotRequired["Items[Block] | None"]


@ALLOW_EXTRA
class OtherBlock(TypedDict):
    """A block of an unknown type, or one whose fields are not validated."""

    type: str


_BLOCK_TYPES = {
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
    discriminate_by_type(_BLOCK_TYPES),
]


def _content_tag(content: Any) -> str:
    return "string" if isinstance(content, str) else "blocks"


Content = Annotated[
    Annotated[str, Tag("string")] | Annotated[Items[Block], Tag("blocks")],
    Discriminator(_content_tag),
]
