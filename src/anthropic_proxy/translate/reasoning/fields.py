"""The reasoning of upstreams -> thinking blocks.

Providers have many forms for the model's reasoning: two names for its text, a list of details with signatures and encrypted
parts (OpenRouter), parts of the content (Mistral), tags within the text (see thinktags). Some of them want it back with the
next request, in the form that it came in; what is needed for that travels in the block's `signature` (see signatures).
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string

# In order of precedence; a server that fills several of them says the same in each.
_TEXT_FIELDS = ("reasoning", "reasoning_content")
DETAILS = "reasoning_details"

# Mistral: a part of the content, `{"type": "thinking", "thinking": [{"type": "text", "text": ...}]}`.
PARTS = "content_parts"

# The fields of a message that hold reasoning.
REASONING_FIELDS = (DETAILS, *reversed(_TEXT_FIELDS))
_FIELDS = frozenset(REASONING_FIELDS)

# Where reasoning came within the text. It does not go back: the templates of such models leave it out of the history.
IN_TEXT = "content"

# What the pieces of one detail have in common. A summary of OpenAI's Responses API has several parts.
_SAME = ("type", "index", "summary_index")

# What a detail's text is called, by the detail's type.
DETAIL_TEXTS = ("text", "summary")


@dataclass(frozen=True)
class Piece:
    """Reasoning in one delta or message: where it came from, its text, and its details where it has any."""

    origin: str
    text: str
    details: tuple[JsonObject, ...] = ()


def reasoning_of(delta: JsonObject) -> Piece | None:
    """The reasoning in a delta or message, None where there is none."""
    if _FIELDS.isdisjoint(delta) and not isinstance(delta.get("content"), list):
        return None
    name = next((each for each in _TEXT_FIELDS if string(delta.get(each))), None)
    text = delta[name] if name else ""
    details = delta.get(DETAILS)
    details = (
        tuple(detail for detail in details if isinstance(detail, dict))
        if isinstance(details, list)
        else ()
    )
    if details:
        return Piece(DETAILS, text or "".join(map(detail_text, details)), details)
    if name:
        return Piece(name, text)
    text = _parts_text(delta.get("content"))
    return Piece(PARTS, text) if text else None


def detail_text(detail: JsonObject) -> str:
    """The readable text of one of OpenRouter's details; encrypted ones have none."""
    name = detail_text_name(detail)
    return detail[name] if name else ""


def detail_text_name(detail: JsonObject) -> str | None:
    """The key of the detail's text, None when it has none."""
    return next((name for name in DETAIL_TEXTS if string(detail.get(name))), None)


def thinking_part(text: str) -> JsonObject:
    """Mistral's form of reasoning, as a part of an assistant message's content."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _goes_on(known: JsonObject, detail: JsonObject) -> bool:
    if detail.get("data") or any(known.get(name) != detail.get(name) for name in _SAME):
        return False
    return not (known.get("signature") and detail_text(detail))


def _parts_text(content: Any) -> str:
    parts = content if isinstance(content, list) else ()
    thinking = [
        part.get("thinking")
        for part in parts
        if isinstance(part, dict) and part.get("type") == "thinking"
    ]
    within = [
        each
        for parts in thinking
        if isinstance(parts, list)
        for each in parts
        if isinstance(each, dict)
    ]
    return "".join(string(each.get("text")) for each in within) + "".join(map(string, thinking))


@dataclass
class Thought:
    """One thinking block under way: what the upstream has sent of it. `shown` is what the client got of its text."""

    origin: str = IN_TEXT
    texts: list[str] = field(default_factory=list)
    _details: list[JsonObject] = field(default_factory=list)
    # Texts of the last detail that are not joined yet, by their keys.
    _pieces: dict[str, list[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def add(self, piece: Piece) -> None:
        """Details say the most, and text between tags the least, about where a block came from."""
        if piece.origin == DETAILS or self.origin == IN_TEXT:
            self.origin = piece.origin
        if piece.text:
            self.texts.append(piece.text)
        for detail in piece.details:
            self._merge(detail)

    @property
    def details(self) -> list[JsonObject]:
        """The details that have come, each of them whole."""
        for name, texts in self._pieces.items():
            self._details[-1][name] = "".join(texts)
        self._pieces.clear()
        return self._details

    @property
    def is_encrypted(self) -> bool:
        """Whether it has something to give back, but no text."""
        return not any(self.texts) and any(
            detail.get("data") or detail.get("signature") for detail in self.details
        )

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.texts)

    def _merge(self, detail: JsonObject) -> None:
        """Details stream in pieces: those of one `index` and type are one, as OpenRouter's documents say."""
        known = self._details[-1] if self._details else None
        if known is None or not _goes_on(known, detail):
            self.details.append(
                {name: value for name, value in detail.items() if value is not None}
            )
            return
        for name, value in detail.items():
            if name in DETAIL_TEXTS and isinstance(value, str):
                self._pieces.setdefault(name, [string(known.get(name))]).append(value)
                known.setdefault(name, "")
            elif value:
                known[name] = value
