"""Token usage: Chat Completions -> Messages.

OpenAI counts cached tokens within `prompt_tokens`; Anthropic keeps the three kinds of input apart, so that their sum is
the prompt. No count is ever negative, whatever an upstream reports (Azure's Grok says cached > prompt).
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

_COUNTS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)

# Larger values cannot be token counts; integers in JSON may have any size, also beyond the range of floats.
_MAX_COUNT = 2**53

_CHARACTERS_PER_TOKEN = 4

# The SDKs know standard, priority and batch, and strict ones refuse any other.
_SERVICE_TIERS = {
    "default": "standard",
    "flex": "standard",
    "scale": "standard",
    "standard": "standard",
    "priority": "priority",
    "fast": "priority",
}


class UsageCounter:
    """Counts the output of a response. `reported` is the upstream's usage and `service_tier` its service tier.

    `delta_count` and the characters estimate the output until the upstream reports its usage.
    """

    def __init__(self) -> None:
        self.reported: JsonObject | None = None
        self.service_tier: Any = None
        self.delta_count = 0
        self.characters = 0

    def add(self, text: str) -> None:
        """Count a delta and its text."""
        self.delta_count += 1
        self.characters += len(text)

    def build_usage(self, input_estimate: int, argument_characters: int) -> JsonObject:
        """Return the `usage` so far. `argument_characters` counts the arguments of the tool calls."""
        estimate = max(
            self.delta_count, (self.characters + argument_characters) // _CHARACTERS_PER_TOKEN
        )
        return to_usage(self.reported, input_estimate=input_estimate, output_estimate=estimate)


def zero_usage() -> JsonObject:
    """Return a usage without tokens."""
    return dict.fromkeys(_COUNTS, 0)


def to_usage(
    reported: JsonObject | None, *, input_estimate: int, output_estimate: int
) -> JsonObject:
    """Return the `usage` of a message, in tokens. The estimates replace counts that the upstream did not report."""
    usage = reported if isinstance(reported, dict) else {}
    prompt = _get_count(usage, "prompt_tokens")
    details = _get_object(usage, "prompt_tokens_details")
    cached = (
        _get_count(details, "cached_tokens")
        or _get_count(usage, "cached_tokens")
        or _get_count(usage, "prompt_cache_hit_tokens")
    )
    cache_read = min(cached, prompt)
    cache_write = min(_get_count(details, "cache_write_tokens"), prompt - cache_read)
    return {
        "input_tokens": prompt - cache_read - cache_write if prompt else input_estimate,
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cache_read,
        "output_tokens": _count_output(usage, prompt) or output_estimate,
        **_build_output_details(usage),
    }


def get_reported_input(reported: JsonObject | None) -> int | None:
    """Return all input tokens that the upstream reported, cached ones included; None without a usable count."""
    return (_get_count(reported, "prompt_tokens") or None) if isinstance(reported, dict) else None


def fills_context(usage: JsonObject, context_window: int) -> bool:
    """Return whether a message's usage fills the model's context window (tokens; 0 if not known)."""
    counts = (int(value) for name, value in usage.items() if name.endswith("_tokens"))
    return 0 < context_window <= sum(counts)


def to_tiers(reported_tier: Any, *, wants_fast_mode: bool) -> JsonObject:
    """Return `service_tier` and `speed` of a usage, as far as the upstream reported a tier."""
    tier = _SERVICE_TIERS.get(reported_tier) if isinstance(reported_tier, str) else None
    if tier is None:
        return {}
    speed = {"speed": "fast" if tier == "priority" else "standard"} if wants_fast_mode else {}
    return {"service_tier": tier, **speed}


def to_usage_iteration(kind: str, usage: JsonObject) -> JsonObject:
    """Return the entry of `usage.iterations` for one run of the model; `kind` is `message` or `compaction`."""
    return {"type": kind, **{name: usage[name] for name in _COUNTS}}


def _count_output(usage: JsonObject, prompt: int) -> int:
    """completion_tokens. xAI and Gemini leave the reasoning out of them, but not out of the total; Gemini doesn't even say
    that it was reasoning, and a gateway over it leaves it out of the total as well (all recorded).
    """
    completion = _get_count(usage, "completion_tokens")
    reasoning = _count_reasoning(usage)
    if reasoning > completion:
        return completion + reasoning
    return (
        max(completion, _get_count(usage, "total_tokens") - prompt)
        if prompt and completion
        else completion
    )


def _count_reasoning(usage: JsonObject) -> int:
    return _get_count(
        _get_object(usage, "completion_tokens_details"), "reasoning_tokens"
    ) or _get_count(usage, "reasoning_tokens")


def _build_output_details(usage: JsonObject) -> JsonObject:
    reasoning = _count_reasoning(usage)
    return {"output_tokens_details": {"thinking_tokens": reasoning}} if reasoning else {}


def _get_object(usage: JsonObject, name: str) -> JsonObject:
    value = usage.get(name)
    return value if isinstance(value, dict) else {}


def _get_count(usage: JsonObject, name: str) -> int:
    value: Any = usage.get(name)
    return int(value) if isinstance(value, int | float) and 0 < value <= _MAX_COUNT else 0
