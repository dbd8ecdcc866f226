"""Read the reasoning of upstreams, which becomes thinking blocks.

Providers have many forms for the model's reasoning: two names for its text, a list of details with signatures and encrypted
parts (OpenRouter), parts of the content (Mistral), tags within the text (see think_tags). Some require it in the next
request, in the same form; the block's `signature` carries the data for that (see signatures).
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# In order of precedence; a server that fills several of them says the same in each.
_TEXT_FIELDS = ("reasoning", "reasoning_content")
DETAILS = "reasoning_details"

# Mistral: a part of the content, `{"type": "thinking", "thinking": [{"type": "text", "text": ...}]}`.
CONTENT_PARTS = "content_parts"

# The fields of a message that hold reasoning.
REASONING_FIELDS = (DETAILS, *reversed(_TEXT_FIELDS))
_FIELDS = frozenset(REASONING_FIELDS)

# Where reasoning came within the text. It does not go back: the templates of such models leave it out of the history.
IN_TEXT = "content"

# What the pieces of one detail have in common. A summary of OpenAI's Responses API has several parts.
_IDENTITY_KEYS = ("type", "index", "summary_index")

# What a detail's text is called, by the detail's type.
DETAIL_TEXT_KEYS = ("text", "summary")


@dataclass(frozen=True)
class ReasoningDelta:
    """Reasoning in one delta or message: where it came from, its text, and its details where it has any."""

    origin: str
    text: str
    details: tuple[JsonObject, ...] = ()


def parse_reasoning(delta: JsonObject) -> ReasoningDelta | None:
    """Return the reasoning of a delta or message, None without one."""
    if _FIELDS.isdisjoint(delta) and not isinstance(delta.get("content"), list):
        return None
    name = next((each for each in _TEXT_FIELDS if string_or_empty(delta.get(each))), None)
    text = delta[name] if name else ""
    details = delta.get(DETAILS)
    details = (
        tuple(detail for detail in details if isinstance(detail, dict))
        if isinstance(details, list)
        else ()
    )
    if details:
        return ReasoningDelta(DETAILS, text or "".join(map(get_detail_text, details)), details)
    if name:
        return ReasoningDelta(name, text)
    text = _join_thinking_parts(delta.get("content"))
    return ReasoningDelta(CONTENT_PARTS, text) if text else None


def get_detail_text(detail: JsonObject) -> str:
    """Return the readable text of one of OpenRouter's details; encrypted ones have none."""
    name = find_text_key(detail)
    return detail[name] if name else ""


def find_text_key(detail: JsonObject) -> str | None:
    """Return the key of the detail's text, None when it has none."""
    return next((name for name in DETAIL_TEXT_KEYS if string_or_empty(detail.get(name))), None)


def thinking_part(text: str) -> JsonObject:
    """Build Mistral's form of reasoning, a part of an assistant message's content."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _continues(last: JsonObject, detail: JsonObject) -> bool:
    if detail.get("data") or any(last.get(name) != detail.get(name) for name in _IDENTITY_KEYS):
        return False
    return not (last.get("signature") and get_detail_text(detail))


def _join_thinking_parts(content: Any) -> str:
    parts = content if isinstance(content, list) else ()
    thinking = [
        part.get("thinking")
        for part in parts
        if isinstance(part, dict) and part.get("type") == "thinking"
    ]
    nested_parts = [
        each
        for parts in thinking
        if isinstance(parts, list)
        for each in parts
        if isinstance(each, dict)
    ]
    return "".join(string_or_empty(each.get("text")) for each in nested_parts) + "".join(
        map(string_or_empty, thinking)
    )


@dataclass
class ReasoningBlock:
    """The reasoning of one thinking block, as the upstream has sent it so far."""

    origin: str = IN_TEXT
    texts: list[str] = field(default_factory=list)
    _details: list[JsonObject] = field(default_factory=list)
    # Texts of the last detail that are not joined yet, by their keys.
    _unjoined_texts: dict[str, list[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def add(self, delta: ReasoningDelta) -> None:
        """Add reasoning. Details are the most specific origin of a block, and text between tags is the least."""
        if delta.origin == DETAILS or self.origin == IN_TEXT:
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
        """Whether it has data for the upstream, but no text."""
        return not any(self.texts) and any(
            detail.get("data") or detail.get("signature") for detail in self.details
        )

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.texts)

    def _merge_detail(self, detail: JsonObject) -> None:
        """Add a detail, or extend the last one of the same `index` and type (OpenRouter's documentation)."""
        last = self._details[-1] if self._details else None
        if last is None or not _continues(last, detail):
            self.details.append(
                {name: value for name, value in detail.items() if value is not None}
            )
            return
        for name, value in detail.items():
            if name in DETAIL_TEXT_KEYS and isinstance(value, str):
                self._unjoined_texts.setdefault(name, [string_or_empty(last.get(name))]).append(
                    value
                )
                last.setdefault(name, "")
            elif value:
                last[name] = value
