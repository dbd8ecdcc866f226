"""Request models of `context_management` and `compaction` (see request.py).

Edits of unknown types are accepted unchanged.

Source: the types of the official SDK (anthropic 2.12), and the API documentation's pages on context
editing and compaction.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, Tag
from typing_extensions import TypedDict

from anthropic_proxy.wire.anthropic.unions import ALLOW_EXTRA, Items, discriminate_by_type


@ALLOW_EXTRA
class InputTokens(TypedDict):
    type: Literal["input_tokens"]
    value: Annotated[int, Field(ge=0)]


@ALLOW_EXTRA
class ToolUses(TypedDict):
    type: Literal["tool_uses"]
    value: Annotated[int, Field(ge=0)]


@ALLOW_EXTRA
class ThinkingTurns(TypedDict):
    type: Literal["thinking_turns"]
    value: Annotated[int, Field(ge=1)]


@ALLOW_EXTRA
class AllTurns(TypedDict):
    type: Literal["all"]


@ALLOW_EXTRA
class CompactTrigger(TypedDict):
    type: Literal["input_tokens"]
    # The API's error is "trigger.value must be at least 50000".
    value: Annotated[int, Field(ge=50_000)]


@ALLOW_EXTRA
class ClearToolUses(TypedDict):
    type: Literal["clear_tool_uses_20250919"]
    trigger: NotRequired[Annotated[InputTokens | ToolUses, Field(discriminator="type")] | None]
    keep: NotRequired[ToolUses | None]
    clear_at_least: NotRequired[InputTokens | None]
    exclude_tools: NotRequired[Items[str] | None]
    clear_tool_inputs: NotRequired[bool | Items[str] | None]


@ALLOW_EXTRA
class ClearThinking(TypedDict):
    type: Literal["clear_thinking_20251015"]
    keep: NotRequired[
        Literal["all"] | Annotated[ThinkingTurns | AllTurns, Field(discriminator="type")] | None
    ]


@ALLOW_EXTRA
class Compact(TypedDict):
    type: Literal["compact_20260112"]
    trigger: NotRequired[CompactTrigger | None]
    instructions: NotRequired[str | None]
    pause_after_compaction: NotRequired[bool | None]


@ALLOW_EXTRA
class OtherEdit(TypedDict):
    type: str


_EDIT_TYPES = {"clear_tool_uses_20250919", "clear_thinking_20251015", "compact_20260112"}


Edit = Annotated[
    Annotated[ClearToolUses, Tag("clear_tool_uses_20250919")]
    | Annotated[ClearThinking, Tag("clear_thinking_20251015")]
    | Annotated[Compact, Tag("compact_20260112")]
    | Annotated[OtherEdit, Tag("other")],
    discriminate_by_type(_EDIT_TYPES),
]


@ALLOW_EXTRA
class ContextManagement(TypedDict):
    # Each edit reads the complete conversation, so their number is limited. The API has three.
    edits: NotRequired[Annotated[Items[Edit], Field(max_length=10)] | None]


@ALLOW_EXTRA
class CompactionConfig(TypedDict):
    type: Literal["summarize"]
    instructions: NotRequired[Annotated[str, Field(max_length=16_384)] | None]
