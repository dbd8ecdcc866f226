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

# What is above this is no number of tokens; integers in JSON may have any size, beyond all floats too.
_MOST = 2**53

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


class Tally:
    """What has come of an answer. `reported` is the usage that the upstream tells, and `tier` how it serves the request;
    `pieces` counts what it sent, which estimates the output as long as it has not told.
    """

    def __init__(self) -> None:
        self.reported: JsonObject | None = None
        self.tier: Any = None
        self.pieces = 0
        self._characters = 0

    def add(self, text: str, pieces: int = 1) -> None:
        """Text has come."""
        self.pieces += pieces
        self._characters += len(text)

    def usage(self, input_estimate: int, argument_characters: int) -> JsonObject:
        """The `usage` of what has come. argument_characters: of the arguments of its tool calls."""
        estimate = max(
            self.pieces, (self._characters + argument_characters) // _CHARACTERS_PER_TOKEN
        )
        return to_usage(self.reported, input_estimate=input_estimate, output_estimate=estimate)


def no_usage() -> JsonObject:
    """The usage of nothing at all."""
    return dict.fromkeys(_COUNTS, 0)


def to_usage(
    reported: JsonObject | None, *, input_estimate: int, output_estimate: int
) -> JsonObject:
    """`usage` of a message, all in tokens. The estimates stand in where the upstream reported nothing usable."""
    usage = reported if isinstance(reported, dict) else {}
    prompt = _count(usage, "prompt_tokens")
    details = _mapping(usage, "prompt_tokens_details")
    cached = (
        _count(details, "cached_tokens")
        or _count(usage, "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens")
    )
    read = min(cached, prompt)
    written = min(_count(details, "cache_write_tokens"), prompt - read)
    return {
        "input_tokens": prompt - read - written if prompt else input_estimate,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _output(usage, prompt) or output_estimate,
        **_thinking_details(usage),
    }


def reported_input(reported: JsonObject | None) -> int | None:
    """All input tokens that the upstream counted, cached ones included; None when it reported nothing usable."""
    return (_count(reported, "prompt_tokens") or None) if isinstance(reported, dict) else None


def fills(usage: JsonObject, context_window: int) -> bool:
    """Whether a message's usage, in tokens, is all that the model's context holds (0: it is not known)."""
    counts = (int(value) for name, value in usage.items() if name.endswith("_tokens"))
    return 0 < context_window <= sum(counts)


def to_tiers(told: Any, *, asks_for_speed: bool) -> JsonObject:
    """`service_tier` and `speed` of a usage, as far as the upstream told how it served the request."""
    tier = _SERVICE_TIERS.get(told) if isinstance(told, str) else None
    if tier is None:
        return {}
    speed = {"speed": "fast" if tier == "priority" else "standard"} if asks_for_speed else {}
    return {"service_tier": tier, **speed}


def to_iteration(kind: str, usage: JsonObject) -> JsonObject:
    """An entry of `usage.iterations` for one run of the model. kind: `message` or `compaction`."""
    return {"type": kind, **{name: usage[name] for name in _COUNTS}}


def _output(usage: JsonObject, prompt: int) -> int:
    """completion_tokens. xAI and Gemini leave the reasoning out of them, but not out of the total; Gemini doesn't even say
    that it was reasoning, and a gateway over it leaves it out of the total as well (all recorded).
    """
    completion = _count(usage, "completion_tokens")
    reasoning = _reasoning(usage)
    if reasoning > completion:
        return completion + reasoning
    return (
        max(completion, _count(usage, "total_tokens") - prompt)
        if prompt and completion
        else completion
    )


def _reasoning(usage: JsonObject) -> int:
    return _count(_mapping(usage, "completion_tokens_details"), "reasoning_tokens") or _count(
        usage, "reasoning_tokens"
    )


def _thinking_details(usage: JsonObject) -> JsonObject:
    reasoning = _reasoning(usage)
    return {"output_tokens_details": {"thinking_tokens": reasoning}} if reasoning else {}


def _mapping(usage: JsonObject, name: str) -> JsonObject:
    value = usage.get(name)
    return value if isinstance(value, dict) else {}


def _count(usage: JsonObject, name: str) -> int:
    value: Any = usage.get(name)
    return int(value) if isinstance(value, int | float) and 0 < value <= _MOST else 0
