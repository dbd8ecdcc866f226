"""Notes on the parts of a request that a translation drops, for logs, the model and the client."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# The response header that lists the tools of the request that the model cannot use.
UNAVAILABLE_HEADER = "anthropic-proxy-unavailable-tools"
# In characters. Node limits all headers together to 16 KB.
_HEADER_LENGTH = 4000
_NO_HEADER_CHARACTER = re.compile(r"[^ -~]")


@dataclass
class TranslationNotes:
    """The parts of one request that the translation dropped."""

    # kinds of dropped fields and blocks that change nothing, such as `content block thinking`
    ignored: set[str] = field(default_factory=set)
    # tools that only Anthropic can run; the system prompt lists them as not available
    unavailable: list[str] = field(default_factory=list)


def to_header_text(text: str) -> str:
    """Replace each character that is not printable ASCII, and not allowed in headers, by `?`."""
    if text.isascii() and text.isprintable():
        return text
    return _NO_HEADER_CHARACTER.sub("?", text)


def build_unavailable_header(names: Sequence[str]) -> dict[str, str]:
    """Build the response header that lists unavailable tools.

    The header ends with the number of names that do not fit. Returns no header without names.
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
    """Return the system prompt text about unavailable tools; empty if there are none."""
    if not notes.unavailable:
        return ""
    names = ", ".join(notes.unavailable)
    return (
        f"These tools are not available in this session: {names}. "
        "Say so if the task needs them; do not invent results."
    )
