"""Figures of the demo, from clock readings. Pure: who measures hands the readings in, all in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer: when the request was sent, its first text came, its stream ended; and its output tokens."""

    sent: float
    first: float
    ended: float
    tokens: int


def first_token_ms(stream: Stream) -> float:
    """Milliseconds from sending the request to the first text of the answer."""
    return (stream.first - stream.sent) * 1000


def tokens_per_second(stream: Stream) -> float:
    """Tokens per second after the first one, whose time went into reading the prompt.

    Raises ValueError when there is nothing to measure: fewer than two tokens, or all of them at once.
    """
    seconds = stream.ended - stream.first
    if stream.tokens < 2 or seconds <= 0:
        raise ValueError(f"{stream.tokens} tokens in {seconds:g} s give no rate")
    return (stream.tokens - 1) / seconds


def added_ms(pairs: Sequence[tuple[float, float]]) -> float:
    """What the proxy adds, in milliseconds: median of the differences of (direct, through the proxy) durations.

    It may be negative when the noise is larger than the difference. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs were measured")
    return median(proxied - direct for direct, proxied in pairs) * 1000
