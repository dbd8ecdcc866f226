"""The upstream's profile and the services on which the translation of messages depends."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.wire.json_codec import JsonObject

# Returns the texts of the pages of a PDF in base64. Raises ApiError (400).
PdfPageReader = Callable[[str], list[str]]


class ReasoningReplayer(Protocol):
    """Restores reasoning from thinking blocks: a `Signer`, which reads their signatures."""

    def can_replay(self, block: JsonObject) -> bool:
        """Return whether a thinking block holds reasoning of an upstream."""

    def replay_reasoning(self, blocks: list[JsonObject], message: JsonObject) -> JsonObject:
        """Return an assistant message with the reasoning of its thinking blocks."""


@dataclass(frozen=True)
class TranslationContext:
    """The upstream's profile and the services that the translation needs."""

    profile: ProviderProfile
    # collects the dropped parts
    notes: TranslationNotes
    signer: ReasoningReplayer
    # extracts PDF text for upstreams that accept no files
    pdf_pages: PdfPageReader

    def without_files(self) -> "TranslationContext":
        """Return the context for places that hold no file, whatever else the upstream accepts."""
        return replace(self, profile=replace(self.profile, takes_files=False))
