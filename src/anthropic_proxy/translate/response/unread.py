"""Report a response that ended normally, but without any content that the proxy can read.

An empty `end_turn` would end the work of an agent without a reason. So the client gets an error
with the beginning of the bytes that arrived, if the upstream counted output tokens, announced
tool calls or sent a finish reason that no table contains.
"""

from typing import Any

from anthropic_proxy.errors import ApiError, UnusableResponseError
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.response.usage import to_usage
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject

# Tokens. A model may end its turn at once, which takes up to three tokens (Anthropic, "Handling
# stop reasons", on empty responses).
_MAX_EMPTY_TOKENS = 3

MAX_SAMPLE_BYTES = 4096
_MAX_SHOWN_LENGTH = 1000


def append_sample(text: str, sample: bytes, upstream: UpstreamIdentity) -> str:
    """Append the bytes that arrived to an error text, redacted and truncated."""
    shown = upstream.redact_beginning(sample.decode("utf-8", "replace").strip())
    return f"{text}: {shown[:_MAX_SHOWN_LENGTH]}" if shown else text


class UnreadResponse:
    """The beginning of a response without content so far."""

    def __init__(self, upstream: UpstreamIdentity) -> None:
        self._upstream = upstream
        self._beginning = bytearray()

    def add(self, payload: bytes) -> None:
        """Add bytes that contain no content."""
        if len(self._beginning) < MAX_SAMPLE_BYTES:
            self._beginning += payload[:MAX_SAMPLE_BYTES]
            self._beginning += b"\n"

    def check(
        self,
        finish_reason: str,
        *,
        announces_calls: bool,
        is_proven: bool,
        reported: Any,
        spec: ResponseSpec,
    ) -> None:
        """Raise ApiError if an empty response is not the model's own.

        Args:
            finish_reason: the upstream's word; empty if it sent none.
            announces_calls: whether it announces tool calls.
            is_proven: whether its meaning is known.
            reported: the usage that the upstream reported.
            spec: the spec of the response.
        """
        usage = to_usage(reported, input_estimate=0, output_estimate=0)
        tokens = _count_visible_tokens(usage)
        # A stop sequence that the upstream has removed was a token of the output.
        has_lost_text = tokens > _MAX_EMPTY_TOKENS and not spec.stop_sequences
        if has_lost_text or announces_calls or not is_proven:
            raise self._create_error(finish_reason, tokens)

    def _create_error(self, finish_reason: str, tokens: int) -> ApiError:
        text = (
            f"The upstream {self._upstream.name} returned a response without text and tool calls "
            f'that the proxy can read (finish reason "{finish_reason}", {tokens} output tokens)'
        )
        return UnusableResponseError(append_sample(text, bytes(self._beginning), self._upstream))


def _count_visible_tokens(usage: JsonObject) -> int:
    """Return the output tokens that are not hidden reasoning."""
    hidden: int = usage.get("output_tokens_details", {}).get("thinking_tokens", 0)
    output: int = usage["output_tokens"]
    return max(output - hidden, 0)
