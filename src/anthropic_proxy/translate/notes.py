"""Record the parts of a request that a translation leaves out: for logs, model and client."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# The response header for tools that the request offers and the model does not have.
UNAVAILABLE_HEADER = "anthropic-proxy-unavailable-tools"
# Characters. Node accepts at most 16 KB of headers together.
_HEADER_LENGTH = 4000
_NO_HEADER_CHARACTER = re.compile(r"[^ -~]")


@dataclass
class TranslationNotes:
    """The parts of one request that the translation left out."""

    # kinds of fields and blocks that were left out harmlessly, such as `field context_management`
    ignored: set[str] = field(default_factory=set)
    # tools that only Anthropic can run; the prompt says that the model doesn't have them
    unavailable: list[str] = field(default_factory=list)


def to_header_text(text: str) -> str:
    """Return the text with `?` for each character but printable ASCII, which headers can't hold."""
    if text.isascii() and text.isprintable():
        return text
    return _NO_HEADER_CHARACTER.sub("?", text)


def build_unavailable_header(names: Sequence[str]) -> dict[str, str]:
    """Build the response header that lists unavailable tools; empty without names.

    The header counts the names that do not fit.
    """
    room = _HEADER_LENGTH
    values: list[str] = []
    for name in names:
        room -= len(name) + 2
        if room < 0:
            values.append(f"and {len(names) - len(values)} more")
            break
        values.append(to_header_text(name))
    if not values:
        return {}
    return {UNAVAILABLE_HEADER: ", ".join(values)}


def build_unavailable_note(notes: TranslationNotes) -> str:
    """Return the note for the model about its missing tools; empty when there are none."""
    if not notes.unavailable:
        return ""
    names = ", ".join(notes.unavailable)
    return (
        f"These tools are not available in this session: {names}. "
        "Say so if the task needs them; do not invent results."
    )
