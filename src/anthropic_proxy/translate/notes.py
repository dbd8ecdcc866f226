"""Record what a translation leaves out, for the logs, and where it matters for the model and the caller."""

from collections.abc import Sequence
from dataclasses import dataclass, field

# The response header for tools that the request offers and the model does not have.
UNAVAILABLE_HEADER = "anthropic-proxy-unavailable-tools"
# Characters. Node takes no more than 16 KB of headers together.
_HEADER_LENGTH = 4000


@dataclass
class TranslationNotes:
    """What the translation of one request left out."""

    # Kinds of fields and blocks that were left out harmlessly, such as `field context_management`.
    ignored: set[str] = field(default_factory=set)
    # Tools that only Anthropic can run; the prompt says that the model doesn't have them.
    unavailable: list[str] = field(default_factory=list)


def to_header_text(text: str) -> str:
    """Return the text with `?` for each character that a header can't hold (all but printable ASCII)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def build_unavailable_header(names: Sequence[str]) -> dict[str, str]:
    """Build the response header that lists unavailable tools and counts those that do not fit; empty without names."""
    room = _HEADER_LENGTH
    values: list[str] = []
    for name in names:
        room -= len(name) + 2
        if room < 0:
            values.append(f"and {len(names) - len(values)} more")
            break
        values.append(to_header_text(name))
    return {UNAVAILABLE_HEADER: ", ".join(values)} if values else {}


def build_unavailable_note(notes: TranslationNotes) -> str:
    """Return the note for the model about its missing tools; empty when there are none."""
    if not notes.unavailable:
        return ""
    names = ", ".join(notes.unavailable)
    return f"These tools are not available in this session: {names}. Say so if the task needs them; do not invent results."
