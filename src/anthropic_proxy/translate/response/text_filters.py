"""The text of an answer, between the upstream's and what the client reads: one filter after the other.

First goes what the client had written itself (its prefill, where the upstream repeats it), then what stands around the
document that a structured answer must be, and last comes the search for stop sequences.
"""

from anthropic_proxy.translate.request.prefill import PrefillStripper
from anthropic_proxy.translate.response.json_text import JsonTextFilter
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.response.stop_reasons import StopSequenceScanner


class ResponseTextFilter:
    """Takes text in pieces. `stopped_at` is the stop sequence that was met; nothing comes out after it."""

    def __init__(self, spec: ResponseSpec) -> None:
        self.is_passthrough = not (spec.prefill or spec.is_structured or spec.stop_sequences)
        """Whether all text goes out as it comes."""
        self._prefill = PrefillStripper(spec.prefill)
        self._json = JsonTextFilter() if spec.is_structured else None
        self._scanner = StopSequenceScanner(spec.stop_sequences)

    @property
    def matched_stop_sequence(self) -> str | None:
        return self._scanner.match

    def feed(self, piece: str) -> str:
        """Text that can go out now."""
        return self._apply_filters(self._prefill.feed(piece))

    def flush(self) -> str:
        """What is held back, at the end of a text block. A stop sequence may be found in it."""
        text = self._apply_filters(self._prefill.close())
        if self._json is not None:
            rest, self._json = self._json.close(), JsonTextFilter()
            text += self._scanner.feed(rest)
        return text + self._scanner.flush()

    def _apply_filters(self, text: str) -> str:
        return self._scanner.feed(text if self._json is None else self._json.feed(text))
