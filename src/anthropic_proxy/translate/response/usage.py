"""Convert the token usage of Chat Completions to that of the Messages API.

OpenAI's `prompt_tokens` includes cached tokens; Anthropic has three separate counts of input
tokens, whose sum is the prompt. No count is negative, even if the upstream's counts are
inconsistent (Azure's Grok reports more cached than prompt tokens).

Some upstreams report the usage elsewhere than in `usage`, with other names, or more than once. The
tables below contain the known places and names.
"""

import re
from collections.abc import Iterable, Iterator
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

# Some gateways send counts as strings.
_COUNT_TEXT = re.compile(r"\s?([0-9]{1,16})(?:\.0+)?\s?")

_CHARACTERS_PER_TOKEN = 4

# Names of counts, in order of precedence. The first name of each table is OpenAI's.
_PROMPT_NAMES = ("prompt_tokens", "input_tokens")
_OUTPUT_NAMES = ("completion_tokens", "output_tokens")
_CACHE_READ_NAMES = (
    "cached_tokens",  # Together, Moonshot
    "prompt_cache_hit_tokens",  # DeepSeek
    "cache_read_input_tokens",  # Anthropic, LiteLLM
)
_CACHE_WRITE_NAMES = (
    "cache_write_tokens",  # OpenAI, OpenRouter
    "cache_creation_input_tokens",  # Anthropic, LiteLLM, Vercel; Qwen, in the details
    "cache_creation_tokens",  # LiteLLM, in the details
    "created_cache_tokens",  # vLLM, in the details
)
# `thinking_tokens` is Anthropic's name. SGLang has `reasoning_tokens` outside the details.
_REASONING_NAMES = ("reasoning_tokens", "thinking_tokens")

# Objects with the parts of a count, also with the names of the Responses API.
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")

# With Anthropic's names, the prompt is the sum of these counts.
_ANTHROPIC_INPUT_NAMES = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)

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

    def record(self, chunk: JsonObject) -> bool:
        """Record the usage that a chunk reports, and return whether it reports any.

        A later report replaces an earlier one, unless it has no prompt: some upstreams send zeros
        at the end, others only the output.
        """
        has_usage = False
        if not _may_have_usage(chunk):
            return has_usage
        for usage in _find_usages(chunk):
            has_usage = True
            if count_prompt(usage) or not isinstance(self.reported, dict):
                self.reported = usage
            elif _count_output(usage) > _count_output(self.reported):
                output = {_OUTPUT_NAMES[0]: _count_output(usage)}
                self.reported = {**self.reported, **output}
        return has_usage

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
    prompt = count_prompt(usage)
    cached = _find_count(usage, _PROMPT_DETAILS, _CACHE_READ_NAMES)
    written = _find_count(usage, _PROMPT_DETAILS, _CACHE_WRITE_NAMES)
    cache_read = min(cached, prompt)
    cache_write = min(written, prompt - cache_read)
    counts: JsonObject = {
        "input_tokens": prompt - cache_read - cache_write if prompt else input_estimate,
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cache_read,
        "output_tokens": _count_all_output(usage, prompt) or output_estimate,
    }
    reasoning = _count_reasoning(usage)
    if reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": reasoning}
    return counts


def get_reported_input(reported: JsonObject | None) -> int | None:
    """Return the reported input tokens, including cached tokens, or None."""
    if not isinstance(reported, dict):
        return None
    return count_prompt(reported) or None


def count_prompt(usage: JsonObject) -> int:
    """Return the tokens of the prompt, including cached tokens; 0 if they are not reported."""
    prompt = _find_count(usage, (), _PROMPT_NAMES)
    if _get_count(usage, _PROMPT_NAMES[0]) or any(name in usage for name in _PROMPT_DETAILS):
        return prompt
    # Without OpenAI's names, `input_tokens` excludes the cached tokens.
    return sum(_get_count(usage, name) for name in _ANTHROPIC_INPUT_NAMES)


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


def _may_have_usage(chunk: JsonObject) -> bool:
    """Return whether a chunk has a field of `_find_usages`. It is called for each chunk."""
    if chunk.get("usage") or chunk.get("x_groq"):
        return True
    choices = chunk.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and choice.get("usage"):
                return True
    return False


def _find_usages(chunk: JsonObject) -> Iterator[JsonObject]:
    """Yield the usage objects of a chunk or a response; the last has the highest precedence."""
    choices = chunk.get("choices")
    # Groq has a field of its own, Moonshot reports in the choice with the finish reason.
    places = [chunk.get("x_groq"), *(choices if isinstance(choices, list) else ()), chunk]
    for place in places:
        usage = place.get("usage") if isinstance(place, dict) else None
        if usage and isinstance(usage, dict):
            yield usage


def _count_all_output(usage: JsonObject, prompt: int) -> int:
    """Return the completion tokens, including reasoning tokens.

    xAI and Gemini exclude reasoning from `completion_tokens`, but include it in the total. Gemini
    does not report it separately, and a gateway for Gemini excludes it from the total too (all
    recorded).
    """
    completion = _count_output(usage)
    reasoning = _count_reasoning(usage)
    if reasoning > completion:
        return completion + reasoning
    if not prompt or not completion:
        return completion
    return max(completion, _get_count(usage, "total_tokens") - prompt)


def _count_output(usage: JsonObject) -> int:
    return _find_count(usage, (), _OUTPUT_NAMES)


def _count_reasoning(usage: JsonObject) -> int:
    return _find_count(usage, _OUTPUT_DETAILS, _REASONING_NAMES)


def _find_count(usage: JsonObject, detail_names: Iterable[str], names: Iterable[str]) -> int:
    """Return the first count above zero, in the details or in the usage itself."""
    holders = []
    for name in detail_names:
        details = usage.get(name)
        if details and isinstance(details, dict):
            holders.append(details)
    holders.append(usage)
    for holder in holders:
        for name in names:
            if name in holder:
                count = _get_count(holder, name)
                if count:
                    return count
    return 0


def _get_count(usage: JsonObject, name: str) -> int:
    """Return a count, or 0 for a value that is not a valid count."""
    value: Any = usage.get(name)
    if value is None:
        return 0
    if isinstance(value, str):
        match = _COUNT_TEXT.fullmatch(value)
        value = int(match[1]) if match else 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value <= _MAX_COUNT else 0
