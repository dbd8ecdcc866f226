"""Convert the token usage of Chat Completions to that of the Messages API.

OpenAI's `prompt_tokens` includes cached tokens; Anthropic has three separate counts of input
tokens, whose sum is the prompt. No count is negative, even if the upstream's counts are
inconsistent (Azure's Grok reports more cached than prompt tokens).
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

_COUNTS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)

# Integers in JSON may exceed the range of floats; larger values are not token counts.
_MAX_COUNT = 2**53

_CHARACTERS_PER_TOKEN = 4

# The SDKs support standard, priority and batch, and strict SDKs reject other values.
_SERVICE_TIERS = {
    "default": "standard",
    "flex": "standard",
    "scale": "standard",
    "standard": "standard",
    "priority": "priority",
    "fast": "priority",
}


class UsageCounter:
    """Counts the output of a response.

    Until the upstream reports its usage, the output tokens are estimated from the numbers of deltas
    and characters.
    """

    def __init__(self) -> None:
        # The usage that the upstream reported.
        self.reported: JsonObject | None = None
        # The service tier that the upstream reported.
        self.service_tier: Any = None
        self.delta_count = 0
        # The number of characters of text and reasoning.
        self.characters = 0

    def add(self, text: str) -> None:
        """Count a delta and its text."""
        self.delta_count += 1
        self.characters += len(text)

    def build_usage(self, input_estimate: int, argument_characters: int) -> JsonObject:
        """Return the `usage` so far.

        `argument_characters` is the number of characters in the arguments of the tool calls.
        """
        characters = self.characters + argument_characters
        estimate = max(self.delta_count, characters // _CHARACTERS_PER_TOKEN)
        return to_usage(self.reported, input_estimate=input_estimate, output_estimate=estimate)


def zero_usage() -> JsonObject:
    """Return a usage without tokens."""
    return dict.fromkeys(_COUNTS, 0)


def to_usage(
    reported: JsonObject | None, *, input_estimate: int, output_estimate: int
) -> JsonObject:
    """Return the `usage` of a message, in tokens.

    The estimates replace counts that the upstream did not report.
    """
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
    counts: JsonObject = {
        "input_tokens": prompt - cache_read - cache_write if prompt else input_estimate,
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cache_read,
        "output_tokens": _count_output(usage, prompt) or output_estimate,
    }
    reasoning = _count_reasoning(usage)
    if reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": reasoning}
    return counts


def get_reported_input(reported: JsonObject | None) -> int | None:
    """Return the reported input tokens, including cached tokens, or None."""
    if not isinstance(reported, dict):
        return None
    return _get_count(reported, "prompt_tokens") or None


def fills_context(usage: JsonObject, context_window: int) -> bool:
    """Return whether a usage fills the model's context window (in tokens; 0 if unknown)."""
    counts = (int(value) for name, value in usage.items() if name.endswith("_tokens"))
    return 0 < context_window <= sum(counts)


def to_tiers(reported_tier: Any, *, wants_fast_mode: bool) -> JsonObject:
    """Return `service_tier` and `speed` of a usage, if the upstream reported a tier."""
    tier = _SERVICE_TIERS.get(string_or_empty(reported_tier))
    if tier is None:
        return {}
    tiers = {"service_tier": tier}
    if wants_fast_mode:
        tiers["speed"] = "fast" if tier == "priority" else "standard"
    return tiers


def to_usage_iteration(kind: str, usage: JsonObject) -> JsonObject:
    """Return the entry of `usage.iterations` for one run of the model.

    `kind` is `message` or `compaction`.
    """
    return {"type": kind, **{name: usage[name] for name in _COUNTS}}


def _count_output(usage: JsonObject, prompt: int) -> int:
    """Return the completion tokens, including reasoning tokens.

    xAI and Gemini exclude reasoning from `completion_tokens`, but include it in the total. Gemini
    does not report it separately, and a gateway for Gemini excludes it from the total too (all
    recorded).
    """
    completion = _get_count(usage, "completion_tokens")
    reasoning = _count_reasoning(usage)
    if reasoning > completion:
        return completion + reasoning
    if not prompt or not completion:
        return completion
    return max(completion, _get_count(usage, "total_tokens") - prompt)


def _count_reasoning(usage: JsonObject) -> int:
    details = _get_object(usage, "completion_tokens_details")
    return _get_count(details, "reasoning_tokens") or _get_count(usage, "reasoning_tokens")


def _get_object(usage: JsonObject, name: str) -> JsonObject:
    value = usage.get(name)
    return value if isinstance(value, dict) else {}


def _get_count(usage: JsonObject, name: str) -> int:
    """Return a count, or 0 for a value that is not a valid count."""
    value: Any = usage.get(name)
    if not isinstance(value, int | float) or not 0 < value <= _MAX_COUNT:
        return 0
    return int(value)
