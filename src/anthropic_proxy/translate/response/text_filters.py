"""Filter the text of a response.

The first filter removes the caller's prefill where the upstream repeats it, the second removes the text around the
document of a structured response, and the last searches for stop sequences.
"""

from anthropic_proxy.translate.request.prefill import PrefillStripper
from anthropic_proxy.translate.response.json_text import JsonTextFilter
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.response.stop_reasons import StopSequenceScanner


class ResponseTextFilter:
    """Filters text that arrives in pieces. No text follows a match of a stop sequence."""

    def __init__(self, spec: ResponseSpec) -> None:
        self.is_passthrough = not (spec.prefill or spec.is_structured or spec.stop_sequences)
        """Whether the filters never change the text."""
        self._prefill = PrefillStripper(spec.prefill)
        self._json = JsonTextFilter() if spec.is_structured else None
        self._scanner = StopSequenceScanner(spec.stop_sequences)

    @property
    def matched_stop_sequence(self) -> str | None:
        return self._scanner.match

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        return self._apply_filters(self._prefill.feed(piece))

    def flush(self) -> str:
        """Return the held text at the end of a text block. It may contain a stop sequence."""
        text = self._apply_filters(self._prefill.close())
        if self._json is not None:
            rest, self._json = self._json.close(), JsonTextFilter()
            text += self._scanner.feed(rest)
        return text + self._scanner.flush()

    def _apply_filters(self, text: str) -> str:
        return self._scanner.feed(text if self._json is None else self._json.feed(text))
