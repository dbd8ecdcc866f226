"""Parse the reasoning of upstreams, which becomes thinking blocks.

Upstreams send reasoning in several forms: in a text field, as a text field and a field with data
for the next request (GitHub Copilot), as a list of details with signatures and encrypted parts
(OpenRouter, LiteLLM), as parts of the content (Mistral), or in tags in the text (see think_tags).
Some require it in the next request, in the same form. The `signature` of the block contains the
data for this (see signatures).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# Fields with data for the next request, by the fields with the text of the same reasoning. Copilot
# has the second pair for models of Azure (vscode-copilot-chat, thinkingUtils.ts).
OPAQUE_FIELDS: Mapping[str, str] = {
    "reasoning_text": "reasoning_opaque",
    "cot_summary": "cot_id",
}
# In order of precedence. Servers that send several fields send the same text.
_TEXT_FIELDS = ("reasoning", "reasoning_content", *OPAQUE_FIELDS)

# Lists of details: OpenRouter's, and LiteLLM's thinking blocks in Anthropic's form
# (docs.litellm.ai/docs/reasoning_content).
DETAILS = "reasoning_details"
THINKING_BLOCKS = "thinking_blocks"
LIST_FIELDS = (DETAILS, THINKING_BLOCKS)

# The origin of reasoning in parts of the content (Mistral):
# `{"type": "thinking", "thinking": [{"type": "text", "text": ...}]}`.
CONTENT_PARTS = "content_parts"

# The fields of a message with reasoning.
REASONING_FIELDS = (*LIST_FIELDS, *OPAQUE_FIELDS.values(), *reversed(_TEXT_FIELDS))
# Those of them that contain the signatures of Claude's thinking.
SIGNED_FIELDS = (*LIST_FIELDS, OPAQUE_FIELDS["reasoning_text"])
_FIELDS = frozenset(REASONING_FIELDS)
_DATA_FIELDS = frozenset((*LIST_FIELDS, *OPAQUE_FIELDS.values()))

# The origin of reasoning in the text. It is not sent back, because the chat templates of such
# models omit it from the history.
IN_TEXT = "content"

ORIGINS = (*LIST_FIELDS, *_TEXT_FIELDS, CONTENT_PARTS, IN_TEXT)
# The origin of a block whose deltas have different origins is the one with the highest rank, and
# of several with the same rank the first. Others have rank 1.
_RANKS = {DETAILS: 4, THINKING_BLOCKS: 3, **dict.fromkeys(OPAQUE_FIELDS, 2), IN_TEXT: 0}

# Keys whose values are equal in all pieces of one detail. Summaries of OpenAI's Responses API have
# several parts with different `summary_index`.
_IDENTITY_KEYS = ("type", "index", "summary_index")

# Keys of a detail's text, depending on the type of the detail.
DETAIL_TEXT_KEYS = ("text", "summary", "thinking")


@dataclass(frozen=True)
class ReasoningDelta:
    """Reasoning in one delta or message."""

    # name of its field, CONTENT_PARTS or IN_TEXT
    origin: str
    text: str
    details: tuple[JsonObject, ...] = ()


def parse_reasoning(delta: JsonObject) -> ReasoningDelta | None:
    """Return the reasoning of a delta or message, or None."""
    if _FIELDS.isdisjoint(delta) and not isinstance(delta.get("content"), list):
        return None
    name = _find_text_field(delta)
    text = delta[name] if name else ""
    # Nearly all reasoning has no data.
    if not _DATA_FIELDS.isdisjoint(delta):
        reasoning = _parse_reasoning_with_data(delta, text)
        if reasoning is not None:
            return reasoning
    if name:
        return ReasoningDelta(name, text)
    text = _join_thinking_parts(delta.get("content"))
    if text:
        return ReasoningDelta(CONTENT_PARTS, text)
    return None


def _parse_reasoning_with_data(delta: JsonObject, text: str) -> ReasoningDelta | None:
    """Return the reasoning with the text and its data for the next request, or None."""
    for origin in LIST_FIELDS:
        details = _get_objects(delta.get(origin))
        if details:
            text = text or "".join(map(get_detail_text, details))
            return ReasoningDelta(origin, text, tuple(details))
    for text_field, opaque_field in OPAQUE_FIELDS.items():
        data = string_or_empty(delta.get(opaque_field))
        if data:
            return ReasoningDelta(text_field, text, ({"type": opaque_field, "data": data},))
    return None


def _find_text_field(delta: JsonObject) -> str | None:
    """Return the name of the first field with a text."""
    for name in _TEXT_FIELDS:
        text = delta.get(name)
        if text and isinstance(text, str):
            return name
    return None


def get_detail_text(detail: JsonObject) -> str:
    """Return the text of a detail; it is empty for encrypted details."""
    name = find_text_key(detail)
    return detail[name] if name else ""


def find_text_key(detail: JsonObject) -> str | None:
    """Return the key of the detail's text, or None if it has no text."""
    return next((name for name in DETAIL_TEXT_KEYS if string_or_empty(detail.get(name))), None)


def thinking_part(text: str) -> JsonObject:
    """Build a content part with reasoning in Mistral's form."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _continues(last: JsonObject, detail: JsonObject) -> bool:
    """Return whether `detail` is the next piece of the last detail."""
    if any(last.get(key) != detail.get(key) for key in _IDENTITY_KEYS):
        return False
    if detail.get("data"):
        return False
    # After its signature, the text of a detail is complete.
    return not (last.get("signature") and get_detail_text(detail))


def _join_thinking_parts(content: Any) -> str:
    texts: list[str] = []
    for part in _get_objects(content):
        if part.get("type") == "thinking":
            thinking = part.get("thinking")
            texts.append(string_or_empty(thinking))
            texts += [string_or_empty(nested.get("text")) for nested in _get_objects(thinking)]
    return "".join(texts)


def _get_objects(value: Any) -> list[JsonObject]:
    """Return the objects in a list; none if it is not a list."""
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]


@dataclass
class ReasoningBlock:
    """The reasoning of one thinking block, as far as it has arrived."""

    # the origin of its deltas; see _RANKS
    origin: str = IN_TEXT
    texts: list[str] = field(default_factory=list)
    _details: list[JsonObject] = field(default_factory=list)
    # texts of the last detail that are not joined yet, by their keys
    _unjoined_texts: dict[str, list[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def add(self, delta: ReasoningDelta) -> None:
        """Add reasoning."""
        if _RANKS.get(delta.origin, 1) > _RANKS.get(self.origin, 1):
            self.origin = delta.origin
        if delta.text:
            self.texts.append(delta.text)
        for detail in delta.details:
            self._merge_detail(detail)

    @property
    def details(self) -> list[JsonObject]:
        """The details so far, with their texts joined."""
        for name, texts in self._unjoined_texts.items():
            self._details[-1][name] = "".join(texts)
        self._unjoined_texts.clear()
        return self._details

    @property
    def is_encrypted(self) -> bool:
        """True if there is data for the upstream, but no text."""
        return self.has_data and not any(self.texts)

    @property
    def has_data(self) -> bool:
        """True if there is data for the upstream."""
        return any(detail.get("data") or detail.get("signature") for detail in self.details)

    @property
    def text(self) -> str:
        """The complete text."""
        return "".join(self.texts)

    def _merge_detail(self, detail: JsonObject) -> None:
        """Add a detail, or extend the last detail if it has the same `index` and type.

        Source: OpenRouter's documentation of reasoning details.
        """
        last = self._details[-1] if self._details else None
        if last is None or not _continues(last, detail):
            self.details.append({key: each for key, each in detail.items() if each is not None})
            return
        for name, value in detail.items():
            if name in DETAIL_TEXT_KEYS and isinstance(value, str):
                first_text = string_or_empty(last.get(name))
                self._unjoined_texts.setdefault(name, [first_text]).append(value)
                # The position of the key is that of its first piece.
                last.setdefault(name, "")
            elif value:
                last[name] = value
