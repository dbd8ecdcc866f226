"""Estimate the input tokens of a request before the upstream counts them.

Vocabularies and chat templates differ, so an estimate may be wrong by tens of percent. The
calibration module corrects the estimates for each model.
"""

from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.tokens.media import estimate_image, estimate_pdf
from anthropic_proxy.translate.tokens.text_estimate import estimate_text
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# What chat templates add. A message begins with its role and ends with a special token: 3 tokens
# with OpenAI's models (its cookbook, "How to count tokens with tiktoken"), 5 in ChatML (Qwen).
_TOKENS_PER_MESSAGE = 4
# The beginning of the response: OpenAI and ChatML.
_TOKENS_PER_REQUEST = 3
# How tools are called: 13 tokens with OpenAI's models, 86 in the template of Qwen3.
_TOKENS_PER_TOOL_LIST = 40
# Around the name and the arguments of a call: 16 tokens in the template of Qwen3, about 10 in the
# Harmony format of gpt-oss.
_TOKENS_PER_CALL = 12

# Fields of content blocks that are not sent to the model.
_IGNORED_KEYS = frozenset(
    ("type", "role", "signature", "cache_control", "tool_use_id", "id", "prompt_cache_breakpoint")
)
# Fields of messages that are counted by themselves, or that templates omit.
_OTHER_MESSAGE_FIELDS = frozenset(("role", "content", "tool_calls", "tool_call_id"))


@dataclass(frozen=True)
class TokenEstimate:
    """Estimated tokens of a request by kind, because the errors of the kinds differ."""

    # messages and the system prompt
    text: int
    # tools and the response format
    tools: int = 0
    # images and files
    media: int = 0
    # what the chat template adds; similar for all models, and no request has fewer
    template: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        """The tokens of text, tools and media."""
        return self.text, self.tools, self.media

    @property
    def total(self) -> int:
        return sum(self.parts) + self.template


def estimate_request(body: JsonObject) -> TokenEstimate:
    """Estimate the input tokens of a Chat Completions request."""
    text = tools = media = calls = 0
    for message in body["messages"]:
        content_text, content_media = _estimate_content(message.get("content"))
        text += content_text + _estimate_other_fields(message)
        media += content_media
        for call in message.get("tool_calls") or ():
            text += _estimate_call(call)
            calls += 1
    for name in ("tools", "response_format"):
        if name in body:
            tools += _estimate_json(body[name])
    has_tools = bool(body.get("tools"))
    template = _estimate_template(len(body["messages"]), calls, has_tools=has_tools)
    return TokenEstimate(text, tools, media, template)


def _estimate_template(messages: int, calls: int, *, has_tools: bool) -> int:
    """Return the tokens that a chat template adds."""
    tokens = _TOKENS_PER_REQUEST + messages * _TOKENS_PER_MESSAGE + calls * _TOKENS_PER_CALL
    return tokens + (_TOKENS_PER_TOOL_LIST if has_tools else 0)


def _estimate_other_fields(message: JsonObject) -> int:
    """Return the tokens of the fields of a message that have no rule, such as reasoning."""
    tokens = 0
    for name, value in message.items():
        if name not in _OTHER_MESSAGE_FIELDS:
            tokens += _estimate_value(value)
    return tokens


def _estimate_call(call: JsonObject) -> int:
    """Return the tokens of the name and arguments of a call. Templates omit its id."""
    function = call.get("function") or {}
    return _estimate_value(function.get("name")) + _estimate_value(function.get("arguments"))


def _estimate_value(value: Any) -> int:
    """Return the tokens of a text, or of another JSON value."""
    if value is None:
        return 0
    if isinstance(value, str):
        return estimate_text(value)
    return _estimate_json(value)


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
    messages = request["messages"]
    text, media, calls = _estimate_values([request.get("system"), messages])
    has_tools = bool(request.get("tools"))
    tools = _estimate_json(request["tools"]) if has_tools else 0
    template = _estimate_template(len(messages), calls, has_tools=has_tools)
    return TokenEstimate(text, tools, media, template)


def _estimate_values(value: Any) -> tuple[int, int, int]:
    """Return the estimated tokens of all texts in a JSON value and of its media, and its calls."""
    text = media = calls = 0
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            text += estimate_text(value)
        elif isinstance(value, list):
            stack += value
        elif not isinstance(value, dict):
            continue
        elif _is_source(value):
            media += _estimate_source(value)
        elif _is_call(value):
            text += estimate_text(value["name"]) + _estimate_json(value["input"])
            calls += 1
        else:
            stack += [each for key, each in value.items() if key not in _IGNORED_KEYS]
    return text, media, calls


def _is_call(value: JsonObject) -> bool:
    """Return whether an object is a block of type `tool_use`, `server_tool_use` or the like."""
    return isinstance(value.get("name"), str) and "input" in value


def _is_source(value: JsonObject) -> bool:
    """Return whether an object is the source of an image or file."""
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
