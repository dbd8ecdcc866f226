"""Estimate the input tokens of a request before the upstream counts them.

The estimate is a rule of thumb for large current vocabularies: a token is about 3.7 ASCII
characters (more in prose, less in source code and JSON), or 4.5 bytes of other scripts. It takes
two passes in C code. The calibration module corrects the estimates for each model.
"""

from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tokens.media import estimate_image, estimate_pdf
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_ASCII_CHARACTERS_PER_TOKEN = 3.7
_OTHER_BYTES_PER_TOKEN = 4.5
_TOKENS_PER_MESSAGE = 4

# Fields of content blocks that are not sent to the model.
_IGNORED_KEYS = frozenset(("type", "role", "signature", "cache_control", "tool_use_id", "id"))


@dataclass(frozen=True)
class TokenEstimate:
    """Estimated tokens of a request by kind, because the errors of the kinds differ."""

    # messages and the system prompt
    text: int
    # tools and the response format
    tools: int = 0
    # images and files
    media: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        """The tokens of text, tools and media."""
        return self.text, self.tools, self.media

    @property
    def total(self) -> int:
        return sum(self.parts)


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text; 0 only for an empty text."""
    if not text:
        return 0
    if text.isascii():
        ascii_length, other_bytes = len(text), 0
    else:
        ascii_length = len(text.encode("ascii", "ignore"))
        other_bytes = len(text.encode("utf-8", "replace")) - ascii_length
    tokens = ascii_length / _ASCII_CHARACTERS_PER_TOKEN + other_bytes / _OTHER_BYTES_PER_TOKEN
    return max(1, round(tokens))


def estimate_request(body: JsonObject) -> TokenEstimate:
    """Estimate the input tokens of a Chat Completions request."""
    text = tools = media = 0
    for message in body["messages"]:
        content_text, content_media = _estimate_content(message.get("content"))
        text += _TOKENS_PER_MESSAGE + content_text
        media += content_media
        fields = {key: value for key, value in message.items() if key not in ("role", "content")}
        if fields:
            text += _estimate_json(fields)
    for name in ("tools", "response_format"):
        if name in body:
            tools += _estimate_json(body[name])
    return TokenEstimate(text, tools, media)


def _estimate_content(content: str | list[JsonObject] | None) -> tuple[int, int]:
    """Return the estimated tokens of the texts and of the media in a message's content."""
    if isinstance(content, str):
        return estimate_text(content), 0
    text = media = 0
    for part in content or ():
        match part["type"]:
            case "text":
                text += estimate_text(part["text"])
            case "image_url":
                media += estimate_image(part["image_url"]["url"])
            case "file":
                media += estimate_pdf(part["file"]["file_data"])
    return text, media


def estimate_untranslated(request: JsonObject) -> TokenEstimate:
    """Estimate the input tokens of a validated Messages request that is not translated."""
    text, media = _estimate_values([request.get("system"), request["messages"]])
    text += _TOKENS_PER_MESSAGE * len(request["messages"])
    tools = _estimate_json(request["tools"]) if request.get("tools") else 0
    return TokenEstimate(text, tools, media)


def _estimate_values(value: Any) -> tuple[int, int]:
    """Return the estimated tokens of all texts and of the media in a JSON value."""
    text = media = 0
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            text += estimate_text(value)
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, dict) and _is_source(value):
            media += _estimate_source(value)
        elif isinstance(value, dict):
            stack += [each for key, each in value.items() if key not in _IGNORED_KEYS]
    return text, media


def _is_source(value: JsonObject) -> bool:
    """Return whether an object is the source of an image or file.

    Tool arguments may have the same `type`, so the other field is checked too.
    """
    match value.get("type"):
        case "base64":
            return isinstance(value.get("data"), str)
        case "url":
            return isinstance(value.get("url"), str)
    return False


def _estimate_source(source: JsonObject) -> int:
    if source["type"] == "url":
        return estimate_image(source["url"])
    data_url = f"data:;base64,{source['data']}"
    if source.get("media_type") == "application/pdf":
        return estimate_pdf(data_url)
    return estimate_image(data_url)


def _estimate_json(value: Any) -> int:
    return estimate_text(dumps(value).decode())
