"""Estimates of input tokens, for what must be said before the upstream has counted.

Vocabularies differ, so this is a rule of thumb for the current large ones: a token is about 3.7 ASCII characters (a
little more in prose, less in source code and JSON), or 4.5 bytes of other scripts. It costs two passes of C code. What a
model makes of it in truth is learned; see calibration.py.
"""

from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tokens.media import estimate_image, estimate_pdf
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_ASCII_CHARACTERS_PER_TOKEN = 3.7
_OTHER_BYTES_PER_TOKEN = 4.5
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class TokenEstimate:
    """Tokens of a request by what they are for, as each kind is off in its own way: text of the messages and the system
    prompt, tools with the answer's format, and media (images and files).
    """

    text: int
    tools: int = 0
    media: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.text, self.tools, self.media

    @property
    def total(self) -> int:
        return sum(self.parts)


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text; 0 only for an empty one."""
    if not text:
        return 0
    ascii_length = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    other_bytes = (
        0 if ascii_length == len(text) else len(text.encode("utf-8", "replace")) - ascii_length
    )
    return max(
        1, round(ascii_length / _ASCII_CHARACTERS_PER_TOKEN + other_bytes / _OTHER_BYTES_PER_TOKEN)
    )


def estimate_request(body: JsonObject) -> TokenEstimate:
    """Estimate the input tokens of a Chat Completions request."""
    text = media = 0
    for message in body["messages"]:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        text += _TOKENS_PER_MESSAGE + sum(
            estimate_text(part["text"]) for part in parts if part["type"] == "text"
        )
        media += sum(_MEDIA[part["type"]](part) for part in parts if part["type"] in _MEDIA)
        rest = {key: value for key, value in message.items() if key not in ("role", "content")}
        text += _estimate_json(rest) if rest else 0
    return TokenEstimate(
        text,
        sum(_estimate_json(body[name]) for name in ("tools", "response_format") if name in body),
        media,
    )


def estimate_untranslated(request: JsonObject) -> TokenEstimate:
    """Estimate the input tokens of a checked Messages request that has no translation."""
    texts, media = _estimate_values([request.get("system"), request["messages"]])
    tools = request.get("tools")
    return TokenEstimate(
        _TOKENS_PER_MESSAGE * len(request["messages"]) + texts,
        _estimate_json(tools) if tools else 0,
        media,
    )


def _estimate_values(value: Any) -> tuple[int, int]:
    """Return the tokens of all texts within a JSON value, and of its media."""
    text = media = 0
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            text += estimate_text(value)
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, dict):
            if _is_source(value):
                media += _estimate_source(value)
            else:
                stack += [each for key, each in value.items() if key not in _IGNORED_KEYS]
    return text, media


def _is_source(value: JsonObject) -> bool:
    kind = value.get("type")
    name = _SOURCE_FIELDS.get(kind) if isinstance(kind, str) else None
    return name is not None and isinstance(value.get(name), str)


def _estimate_source(source: JsonObject) -> int:
    if source["type"] == "url":
        return estimate_image(source["url"])
    estimate_media = (
        estimate_pdf if source.get("media_type") == "application/pdf" else estimate_image
    )
    return estimate_media(f"data:;base64,{source['data']}")


def _estimate_json(value: Any) -> int:
    return estimate_text(dumps(value).decode())


_MEDIA = {
    "image_url": lambda part: estimate_image(part["image_url"]["url"]),
    "file": lambda part: estimate_pdf(part["file"]["file_data"]),
}
# Types of sources, with the field that holds each. The arguments of a tool may look alike, so that is checked.
_SOURCE_FIELDS = {"base64": "data", "url": "url"}
# Values that no model reads.
_IGNORED_KEYS = frozenset(("type", "role", "signature", "cache_control", "tool_use_id", "id"))
