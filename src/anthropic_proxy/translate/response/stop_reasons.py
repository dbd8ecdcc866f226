"""Map the finish reason of an upstream to the stop fields of a message, or to a failure.

Servers pass on the words of many engines, in any case and with any separators. A word that no table
contains may be the name of an error, or contain a word that shows how the response ended. Any other
word proves nothing: it may end a text, but not a tool call with incomplete arguments.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.error_codes import find_named_status
from anthropic_proxy.wire.json_codec import JsonObject

STOP_REASONS: Mapping[str, str] = {
    # OpenAI.
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
    # OpenAI's Responses API (`incomplete_details.reason`).
    "max_output_tokens": "max_tokens",
    # Anthropic, behind gateways that do not translate it.
    "end_turn": "end_turn",
    "stop_sequence": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    # Also Z.ai.
    "model_context_window_exceeded": "model_context_window_exceeded",
    "refusal": "refusal",
    # Together.
    "eos": "end_turn",
    # Text Generation Inference and watsonx.
    "eos_token": "end_turn",
    "token_limit": "max_tokens",
    # Cohere. A context limit ends a response with `ERROR_LIMIT`.
    "complete": "end_turn",
    "tool_call": "tool_use",
    "error_limit": "model_context_window_exceeded",
    "error_toxic": "refusal",
    # The native finish reason of Responses models at OpenRouter.
    "completed": "end_turn",
    # Baidu Qianfan.
    "normal": "end_turn",
    # Mistral.
    "model_length": "model_context_window_exceeded",
    # LM Studio.
    "eos_found": "end_turn",
    "stop_string_found": "end_turn",
    "max_predicted_tokens_reached": "max_tokens",
    "context_length_reached": "model_context_window_exceeded",
    # The refused request's error code, as a reason.
    "context_length_exceeded": "model_context_window_exceeded",
    # Gemini, which also has `STOP` and `MAX_TOKENS`.
    "safety": "refusal",
    "recitation": "refusal",
    "language": "refusal",
    "blocklist": "refusal",
    "prohibited_content": "refusal",
    "spii": "refusal",
    "model_armor": "refusal",
    "image_safety": "refusal",
    "image_prohibited_content": "refusal",
    "image_recitation": "refusal",
    # Z.ai and Hunyuan.
    "sensitive": "refusal",
    # Bedrock.
    "content_filtered": "refusal",
    "guardrail_intervened": "refusal",
    # Error codes of OpenAI and DashScope, as a reason.
    "content_policy_violation": "refusal",
    "data_inspection_failed": "refusal",
}

# Words for a response that broke off, with the HTTP status of the error.
FAILURES: Mapping[str, int] = {
    # OpenRouter, Mistral, vLLM and Cohere.
    "error": 500,
    # LM Studio.
    "failed": 500,
    "model_unloaded": 500,
    "user_stopped": 500,
    # vLLM and SGLang; `aborted` at gateways.
    "abort": 500,
    "aborted": 500,
    # The Responses API and TensorRT-LLM; `canceled` and `interrupted` at gateways.
    "cancelled": 500,
    "canceled": 500,
    "interrupted": 500,
    # Cohere.
    "user_cancel": 500,
    # Z.ai.
    "network_error": 500,
    # DeepSeek.
    "insufficient_system_resource": 529,
    # Error codes of OpenAI and Google, as a reason.
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "overloaded": 529,
    # TensorRT-LLM and Cohere; watsonx.
    "timeout": 504,
    "time_limit": 504,
    # Gemini.
    "malformed_function_call": 500,
    "malformed_response": 500,
    "unexpected_tool_call": 500,
    "too_many_tool_calls": 500,
    "missing_thought_signature": 500,
    # Bedrock.
    "malformed_model_output": 500,
    "malformed_tool_use": 500,
}

# For other finish reasons: patterns of words within them, and the stop reason or the HTTP status of
# a failure. The first match counts.
_WORDINGS: tuple[tuple[str, str | int], ...] = (
    # `rate_limit`, `insufficient_quota`, `request_throttled`: before `token_limit`, because a rate
    # may be one of tokens.
    (r"rate_limit(ed|s)?|ratelimit(ed)?|throttl(ed|ing)|quota", 429),
    # `context deadline exceeded` is Go's error for a timeout.
    (r"time_?out|timed_out|time_limit|deadline", 504),
    (r"overload(ed)?", 529),
    (r"unavailable", 529),
    # `request_aborted`, `client_disconnected`, `killed`; `context canceled` is Go's error for a
    # client that left.
    (r"abort(ed)?|cancel(l?ed|lation)?|interrupted|disconnect(ed|ion)?|kill(ed)?", 500),
    # `context_window_exceeded`; before `length`, as in `context_length_error`.
    (r"context", "model_context_window_exceeded"),
    # `length_limit`, `max_length`, `token_limit_reached`, `max_new_tokens`.
    (r"length|tokens?_limit|max_([a-z]+_)?tokens?", "max_tokens"),
    # `safety_block`, `response_blocked`, `output_filtered`.
    (r"safety|blocked|prohibited|filter(ed)?", "refusal"),
    # `internal_error`, `upstream_error`; last, because other words are more specific.
    (r"error(s|ed)?|fail(ed|ure)?|exception|crash(ed)?", 500),
)
_WORDING_PATTERNS = tuple(
    (re.compile(rf"(?<![^_])(?:{wording})(?![^_])"), meaning) for wording, meaning in _WORDINGS
)
# As in `no error`.
_NEGATED_WORD = re.compile(r"(?<![^_])(?:no|not|non|without)_[a-z0-9]+")

# Words in chunks before the end. DashScope sends the string "null".
_PENDING = frozenset({"", "null", "none", "undefined", "notfinished", "unspecified"})

# With these reasons, the response is truncated or refused even if it contains tool calls.
_FINAL_REASONS = frozenset({"max_tokens", "refusal", "model_context_window_exceeded"})
# From the least to the most severe.
_BY_SEVERITY = (
    None,
    "tool_use",
    "end_turn",
    "max_tokens",
    "model_context_window_exceeded",
    "refusal",
)

_SEPARATORS = re.compile(r"[^a-z0-9]+")
# As in `InternalError`.
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# As in `content_filter: PROHIBITED_CONTENT` and `FinishReason.SAFETY`.
_PARTS = re.compile(r"[:.]")
# Characters. Longer texts are no finish reasons.
_MAX_WORD_LENGTH = 100


def _fold(word: str) -> str:
    """Return a word in lower case without separators and the name of Gemini's enumeration."""
    return _SEPARATORS.sub("", word.lower()).removeprefix("finishreason")


_FOLDED_STOP_REASONS = {_fold(word): reason for word, reason in STOP_REASONS.items()}
_FOLDED_FAILURES = {_fold(word): status for word, status in FAILURES.items()}


@dataclass(frozen=True)
class FinishReason:
    """The reason that an upstream reported for the end of a response."""

    # the upstream's word
    word: str
    # the matching stop reason; None for a failure and for an unknown word
    stop_reason: str | None = None
    # the HTTP status of a failure
    failure_status: int | None = None

    @property
    def is_unknown(self) -> bool:
        return self.stop_reason is None and self.failure_status is None

    @property
    def is_cut(self) -> bool:
        """True if the response ended early, so that its last tool call may be incomplete."""
        return self.stop_reason in _FINAL_REASONS

    @property
    def severity(self) -> int:
        """The rank among several reasons of one response; the highest counts."""
        if self.failure_status is not None:
            return len(_BY_SEVERITY)
        return _BY_SEVERITY.index(self.stop_reason)


def parse_finish_reason(value: Any) -> FinishReason | None:
    """Return the reason in a field `finish_reason`, or None if the response has not ended."""
    if isinstance(value, dict):
        # SGLang's native form.
        value = value.get("type")
    if not value:
        return None
    word = str(value)[: _MAX_WORD_LENGTH + 1]
    if not isinstance(value, str) or len(word) > _MAX_WORD_LENGTH:
        return FinishReason(word)
    if _fold(word) in _PENDING and word.isascii():
        return None
    meanings = [_find_listed_meaning(word)]
    for part in _PARTS.split(word):
        meanings.append(_find_listed_meaning(part) or _find_worded_meaning(part))
    reasons = [_to_reason(word, meaning) for meaning in meanings]
    return max(reasons, key=lambda reason: reason.severity)


def _find_listed_meaning(word: str) -> str | int | None:
    """Return the stop reason, or the HTTP status of the failure, of a word in a table."""
    folded = _fold(word)
    if folded in _FOLDED_FAILURES:
        return _FOLDED_FAILURES[folded]
    if folded in _FOLDED_STOP_REASONS:
        return _FOLDED_STOP_REASONS[folded]
    return find_named_status([folded])


def _find_worded_meaning(text: str) -> str | int | None:
    """Return the stop reason, or the HTTP status of the failure, that words in a text show."""
    words = _SEPARATORS.sub("_", _CAMEL_BOUNDARY.sub("_", text).lower())
    words = _NEGATED_WORD.sub("", words)
    for pattern, meaning in _WORDING_PATTERNS:
        if pattern.search(words):
            return meaning
    return None


def _to_reason(word: str, meaning: str | int | None) -> FinishReason:
    if isinstance(meaning, int):
        return FinishReason(word, failure_status=meaning)
    return FinishReason(word, meaning)


def to_stop_fields(stop_reason: str, *, has_calls: bool, refusal: str = "") -> JsonObject:
    """Return stop_reason, stop_sequence and, for a refusal, stop_details.

    Clients act on `tool_use`, so it depends only on the presence of tool calls: some upstreams
    report `stop` for calls (Ollama, vLLM with a named tool, Gemini).
    """
    if refusal:
        stop_reason = "refusal"
    if stop_reason not in _FINAL_REASONS:
        stop_reason = "tool_use" if has_calls else "end_turn"
    stop: JsonObject = {"stop_reason": stop_reason, "stop_sequence": None}
    if stop_reason == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal or None}
    return stop


def to_stop_sequence_fields(sequence: str) -> JsonObject:
    """Return the stop fields of a response that matched a stop sequence of the client."""
    return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
