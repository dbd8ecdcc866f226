"""Figures of the demo, from clock readings. Pure: who measures hands the readings in, all in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One streamed answer: when the request was sent, its first text came, its stream ended; and its output tokens."""

    sent_at: float
    first_text_at: float
    ended_at: float
    tokens: int


def compute_first_token_ms(stream: StreamTimes) -> float:
    """Milliseconds from sending the request to the first text of the answer."""
    return (stream.first_text_at - stream.sent_at) * 1000


def compute_tokens_per_second(stream: StreamTimes) -> float:
    """Tokens per second after the first one, whose time went into reading the prompt.

    Raises ValueError when there is nothing to measure: fewer than two tokens, or all of them at once.
    """
    seconds = stream.ended_at - stream.first_text_at
    if stream.tokens < 2 or seconds <= 0:
        raise ValueError(f"{stream.tokens} tokens in {seconds:g} s give no rate")
    return (stream.tokens - 1) / seconds


def compute_added_ms(pairs: Sequence[tuple[float, float]]) -> float:
    """What the proxy adds, in milliseconds: median of the differences of (direct, through the proxy) durations.

    It may be negative when the noise is larger than the difference. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs were measured")
    return median(proxied - direct for direct, proxied in pairs) * 1000
