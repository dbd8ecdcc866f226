"""The rules for models that only stream, or do not stream.

The response still has the form that the client requests.
"""

from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    RefusalRule,
    is_param,
    names_no_other_field,
    wordings,
)

# DashScope, Fireworks, OpenRouter, Anthropic's SDK. Chinese providers: "only supports streaming",
# "does not support non-streaming".
_STREAM_REQUIRED = wordings(
    r"only supports? (?:the )?stream|stream(?:ing)?[ -](?:mode |output )?only\b"
    r"|(?:must|should|needs? to|has to) (?:have|set|use|enable) (?:the )?[`'\"]?stream"
    r"|\bstream(?:ing)?[`'\"]? ?(?:must|should|has to|needs to) be (?:set to )?[`'\"]?"
    r"(?:true|enabled)|please (?:enable|set|use) (?:the )?[`'\"]?stream"
    r"|non-?stream\w*(?: mode| requests?| calls?| responses?)? (?:is |are )?(?:not |un)"
    r"(?:supported|allowed|available)|(?:does not|doesn't|not) support non-?stream"
    r"|streaming is (?:strongly )?(?:required|recommended|mandatory)|requires? stream(?:ing\b|=)"
    r"|'stream' does not support false|only stream(?:ing)? (?:is|are) (?:supported|allowed)"
    r"|\bstream ?= ?false (?:is )?not|(?:仅|只)支持流式|不支持非流式"
)
# OpenAI (unverified organizations, and o1), Bedrock ("unsupported for streaming"). Chinese
# providers: "does not support streaming".
_STREAM_REFUSED = wordings(
    r"verified to stream|unsupported for streaming|'stream' does not support true"
    r"|(?<!non-)\bstream(?:ing)?[`'\"]?(?: mode| responses?| output)? (?:is |are )?(?:not |un)"
    r"(?:supported|available|allowed|enabled)"
    r"|(?:does not|doesn't|do not|cannot|can't) (?:currently )?(?:support |use )?(?:the )?"
    r"[`'\"]?stream(?:ing)?\b|\bstream[`'\"]? ?(?:must|should) be (?:set to )?[`'\"]?false"
    r"|\bstream ?= ?true (?:is )?not|不支持流式"
)
# Bedrock ("doesn't support tool use in streaming mode"), NVIDIA NIM ("Tool calling is not supported
# in streaming mode!"), llama.cpp before May 2025 ("Cannot use tools with stream").
_STREAM_WITH_TOOLS_REFUSED = wordings(
    r"\b(?:tool|function)[\w ]{0,60} (?:in|with|when|while) (?:using )?stream"
    r"|\bstream(?:ing)?\b.{0,40}\b(?:tools?|function calling)\b",
    r"(?:not|n't) (?:yet )?(?:support|allow|use|available)|unsupported|cannot|must be false",
)

# The usage in streams is another field, which is dropped.
_NOT_STREAM_OPTIONS = wordings(r"\A(?!.*stream[ _-]?options)")

# In order of evaluation.
STREAM_RULES: tuple[RefusalRule, ...] = (
    # A request without thinking disables it instead, see `rules.py`.
    RefusalRule(
        wordings("enable[_ ]thinking.{0,60}(non-streaming|stream=false)"),
        "request_stream",
        "stream",
        requires="thinks",
    ),
    RefusalRule(_STREAM_REQUIRED + _NOT_STREAM_OPTIONS, "request_stream", "stream"),
    RefusalRule(
        _STREAM_WITH_TOOLS_REFUSED + _NOT_STREAM_OPTIONS,
        "request_whole",
        "stream",
        requires="tools",
    ),
    # Without another refused field, the model may stream.
    RefusalRule(
        _STREAM_REFUSED + _NOT_STREAM_OPTIONS,
        "request_whole",
        "stream",
        named_by=names_no_other_field,
    ),
    RefusalRule(ANY_WORDING, "request_whole", "stream", named_by=is_param),
    RefusalRule(ANY_WORDING, "request_stream", "stream", named_by=is_param),
)
