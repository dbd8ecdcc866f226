"""Compute the figures of the demo from times in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Times of one streamed response, and the number of its output tokens."""

    sent_at: float
    first_text_at: float
    ended_at: float
    tokens: int


def compute_first_token_ms(stream: StreamTimes) -> float:
    """Return the milliseconds from the request to the first text of the response."""
    return (stream.first_text_at - stream.sent_at) * 1000


def compute_tokens_per_second(stream: StreamTimes) -> float:
    """Return the token rate without the first token, whose time includes the prompt.

    Raises ValueError for fewer than two tokens, and if all tokens arrive at once.
    """
    seconds = stream.ended_at - stream.first_text_at
    if stream.tokens < 2 or seconds <= 0:
        raise ValueError(
            f"cannot compute the token rate of {stream.tokens} tokens in {seconds:g} s"
        )
    return (stream.tokens - 1) / seconds


def compute_added_ms(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the milliseconds that the proxy adds: the median of the differences of the pairs.

    pairs: (direct, proxied) durations in seconds. The result may be negative if the noise exceeds
    the difference. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs were measured")
    return median(proxied - direct for direct, proxied in pairs) * 1000
