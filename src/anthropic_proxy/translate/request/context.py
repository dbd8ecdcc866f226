"""What the translation of messages depends on besides the request itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import Signer

# The texts of a PDF's pages, for the PDF in base64. Raises ApiError (400).
PdfPageReader = Callable[[str], list[str]]


@dataclass(frozen=True)
class TranslationContext:
    """dialect: of the upstream. notes: takes what is left out. signer: reads the signatures of thinking blocks.
    pdf_pages: reads PDFs for upstreams that don't.
    """

    profile: ProviderProfile
    notes: TranslationNotes
    signer: Signer
    pdf_pages: PdfPageReader

    def without_files(self) -> "TranslationContext":
        """For places that hold no file, whatever the upstream takes elsewhere."""
        return replace(self, profile=replace(self.profile, takes_files=False))
