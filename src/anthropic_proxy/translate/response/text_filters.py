"""The text of an answer, between the upstream's and what the client reads: one filter after the other.

First goes what the client had written itself (its prefill, where the upstream repeats it), then what stands around the
document that a structured answer must be, and last comes the search for stop sequences.
"""

from anthropic_proxy.translate.request.prefill import PrefillStripper
from anthropic_proxy.translate.response.json_text import JsonAnswer
from anthropic_proxy.translate.response.spec import AnswerSpec
from anthropic_proxy.translate.response.stop_reasons import StopScanner


class AnswerText:
    """Takes text in pieces. `stopped_at` is the stop sequence that was met; nothing comes out after it."""

    def __init__(self, spec: AnswerSpec) -> None:
        self.passes = not (spec.prefill or spec.structured or spec.stop_sequences)
        """Whether all text goes out as it comes."""
        self._prefill = PrefillStripper(spec.prefill)
        self._json = JsonAnswer() if spec.structured else None
        self._scanner = StopScanner(spec.stop_sequences)

    @property
    def stopped_at(self) -> str | None:
        return self._scanner.matched

    def feed(self, piece: str) -> str:
        """Text that can go out now."""
        return self._shaped(self._prefill.feed(piece))

    def flush(self) -> str:
        """What is held back, at the end of a text block. A stop sequence may be found in it."""
        text = self._shaped(self._prefill.close())
        if self._json is not None:
            rest, self._json = self._json.close(), JsonAnswer()
            text += self._scanner.feed(rest)
        return text + self._scanner.flush()

    def _shaped(self, text: str) -> str:
        return self._scanner.feed(text if self._json is None else self._json.feed(text))
