"""What the translation of messages depends on besides the request."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import Signer

# Returns the texts of the pages of a PDF in base64. Raises ApiError (400).
PdfPageReader = Callable[[str], list[str]]


@dataclass(frozen=True)
class TranslationContext:
    """The upstream's profile and the services that translation needs."""

    # of the upstream
    profile: ProviderProfile
    # collects what is dropped
    notes: TranslationNotes
    # reads the signatures of thinking blocks
    signer: Signer
    # extracts PDF text for upstreams that accept no files
    pdf_pages: PdfPageReader

    def without_files(self) -> "TranslationContext":
        """Return the context for places that hold no file, whatever the upstream accepts elsewhere."""
        return replace(self, profile=replace(self.profile, takes_files=False))
