"""Compute the figures of the demo from clock readings in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Times of one streamed response, and its output tokens."""

    sent_at: float
    first_text_at: float
    ended_at: float
    tokens: int


def compute_first_token_ms(stream: StreamTimes) -> float:
    """Return the milliseconds from the request to the first text of the response."""
    return (stream.first_text_at - stream.sent_at) * 1000


def compute_tokens_per_second(stream: StreamTimes) -> float:
    """Return the rate of tokens after the first one, which waits until the prompt is read.

    Raises ValueError without a rate: for fewer than two tokens, or all of them at once.
    """
    seconds = stream.ended_at - stream.first_text_at
    if stream.tokens < 2 or seconds <= 0:
        raise ValueError(f"{stream.tokens} tokens in {seconds:g} s give no rate")
    return (stream.tokens - 1) / seconds


def compute_added_ms(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the milliseconds that the proxy adds: the median of the differences between (direct,
    proxied) durations.

    It may be negative when the noise exceeds the difference. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs were measured")
    return median(proxied - direct for direct, proxied in pairs) * 1000
