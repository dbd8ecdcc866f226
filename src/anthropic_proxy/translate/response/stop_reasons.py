"""Map the finish reason of an upstream to the stop fields of a message."""

from anthropic_proxy.wire.json_codec import JsonObject

# First the reasons of Chat Completions, then those of other servers.
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
    "eos": "end_turn",
    "STOP": "end_turn",
    "MAX_TOKENS": "max_tokens",
    "model_length": "model_context_window_exceeded",
    "SAFETY": "refusal",
    "sensitive": "refusal",
}

# With these reasons, the response is truncated or refused even if it contains tool calls.
_FINAL_REASONS = frozenset({"max_tokens", "refusal", "model_context_window_exceeded"})


def to_stop_fields(finish_reason: str, *, has_calls: bool, refusal: str = "") -> JsonObject:
    """Return stop_reason, stop_sequence and, for a refusal, stop_details.

    Clients act on `tool_use`, so it depends only on the presence of tool calls: some upstreams
    report `stop` for calls (Ollama, vLLM with a named tool, Gemini).
    """
    reason = STOP_REASONS.get(finish_reason, "end_turn")
    if refusal:
        reason = "refusal"
    if reason not in _FINAL_REASONS:
        reason = "tool_use" if has_calls else "end_turn"
    stop: JsonObject = {"stop_reason": reason, "stop_sequence": None}
    if reason == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal or None}
    return stop


def to_stop_sequence_fields(sequence: str) -> JsonObject:
    """Return the stop fields of a response that matched a stop sequence of the client."""
    return {"stop_reason": "stop_sequence", "stop_sequence": sequence}


def is_truncated(finish_reason: str) -> bool:
    """Return whether a token limit ended the response."""
    return STOP_REASONS.get(finish_reason) in ("max_tokens", "model_context_window_exceeded")
