"""The upstream's profile and the services that the translation of messages needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.wire.json_codec import JsonObject

# Returns the text of each page of a base64-encoded PDF. Raises ApiError (400).
PdfPageReader = Callable[[str], list[str]]


class ReasoningReplayer(Protocol):
    """Restores an upstream's reasoning from thinking blocks; implemented by `Signer`."""

    def can_replay(self, block: JsonObject) -> bool:
        """Return whether a thinking block contains reasoning of an upstream."""

    def replay_reasoning(self, blocks: list[JsonObject], message: JsonObject) -> JsonObject:
        """Return the assistant message with the reasoning of its thinking blocks."""


@dataclass(frozen=True)
class TranslationContext:
    """The upstream's profile and the services that the translation needs."""

    profile: ProviderProfile
    # receives notes on dropped parts
    notes: TranslationNotes
    signer: ReasoningReplayer
    # extracts PDF text for upstreams that accept no files
    pdf_pages: PdfPageReader
    # whether several texts stay parts, so that moving cache marks do not change the prefix
    keeps_parts: bool = False

    def without_files(self) -> "TranslationContext":
        """Return the context for an upstream that does not accept files."""
        return replace(self, profile=replace(self.profile, takes_files=False))
