"""Estimates of input tokens, for what must be said before the upstream has counted.

Vocabularies differ, so this is a rule of thumb for the current large ones: a token is about 3.7 ASCII characters (a
little more in prose, less in source code and JSON), or 4.5 bytes of other scripts. It costs two passes of C code. What a
model makes of it in truth is learned; see translate/ratios.py.
"""

from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tokens.media import image_tokens, pdf_tokens
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_ASCII_CHARACTERS_PER_TOKEN = 3.7
_OTHER_BYTES_PER_TOKEN = 4.5
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class Estimate:
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
    """Tokens of a text; 0 only for an empty one."""
    if not text:
        return 0
    ascii_length = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    other_bytes = (
        0 if ascii_length == len(text) else len(text.encode("utf-8", "replace")) - ascii_length
    )
    return max(
        1, round(ascii_length / _ASCII_CHARACTERS_PER_TOKEN + other_bytes / _OTHER_BYTES_PER_TOKEN)
    )


def estimate_request(body: JsonObject) -> Estimate:
    """Input tokens of a Chat Completions request."""
    text = media = 0
    for message in body["messages"]:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        text += _TOKENS_PER_MESSAGE + sum(
            estimate_text(part["text"]) for part in parts if part["type"] == "text"
        )
        media += sum(_MEDIA[part["type"]](part) for part in parts if part["type"] in _MEDIA)
        rest = {key: value for key, value in message.items() if key not in ("role", "content")}
        text += _json(rest) if rest else 0
    return Estimate(
        text, sum(_json(body[name]) for name in ("tools", "response_format") if name in body), media
    )


def estimate_untranslated(request: JsonObject) -> Estimate:
    """Input tokens of a checked Messages request that has no translation, so that it can be counted all the same."""
    texts, media = _strings([request.get("system"), request["messages"]])
    tools = request.get("tools")
    return Estimate(
        _TOKENS_PER_MESSAGE * len(request["messages"]) + texts, _json(tools) if tools else 0, media
    )


def _strings(value: Any) -> tuple[int, int]:
    """Return the tokens of all texts within a JSON value, and of its media."""
    text = media = 0
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            text += estimate_text(value)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if _is_source(value):
                media += _source(value)
            else:
                waiting += [each for key, each in value.items() if key not in _NOT_READ]
    return text, media


def _is_source(value: JsonObject) -> bool:
    kind = value.get("type")
    name = _SOURCES.get(kind) if isinstance(kind, str) else None
    return name is not None and isinstance(value.get(name), str)


def _source(source: JsonObject) -> int:
    if source["type"] == "url":
        return image_tokens(source["url"])
    count = pdf_tokens if source.get("media_type") == "application/pdf" else image_tokens
    return count(f"data:;base64,{source['data']}")


def _json(value: Any) -> int:
    return estimate_text(dumps(value).decode())


_MEDIA = {
    "image_url": lambda part: image_tokens(part["image_url"]["url"]),
    "file": lambda part: pdf_tokens(part["file"]["file_data"]),
}
# Types of sources, with the field that holds each. The arguments of a tool may look alike, so that is checked.
_SOURCES = {"base64": "data", "url": "url"}
# Values that no model reads.
_NOT_READ = frozenset(("type", "role", "signature", "cache_control", "tool_use_id", "id"))
