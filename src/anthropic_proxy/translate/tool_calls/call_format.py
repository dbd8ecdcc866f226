"""A format of tool calls in text, and the beginning and the reading of a call in it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools
from anthropic_proxy.translate.tool_calls.text_calls import TextCalls
from anthropic_proxy.wire.json_codec import repair_surrogates

# A placeholder for the name of an offered tool, which may have a namespace.
NAME = "NAME"


@dataclass(frozen=True)
class TextCallFormat:
    """A format of calls."""

    # marker before the calls
    opener: str
    # marker after the calls; None if they extend to the end of the response
    end: str | None
    # possible texts after the opener, without white space, that are long enough to expect a call to
    # the tool NAME
    openings: tuple[str, ...]
    # returns the calls between the markers; raises ValueError if some are not calls to offered
    # tools
    read: Callable[[str, OfferedTools], TextCalls]
    # whether such calls are accepted only at the end of the response
    must_be_last: bool = False
    # whether only blanks may precede the opener on its line, because it is no special token and may
    # be part of prose
    must_start_line: bool = False
    # marker before the JSON document of the arguments; without it, at most a name precedes it
    document_marker: str | None = None
    # other spellings of the marker after the calls
    other_ends: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[str, ...]:
        """All markers after the calls; empty if they extend to the end of the response."""
        return () if self.end is None else (self.end, *self.other_ends)

    @cached_property
    def split_openings(self) -> tuple[tuple[str, str], ...]:
        """The texts before and after NAME in each opening."""
        parts = (opening.partition(NAME) for opening in self.openings)
        return tuple((before, after) for before, _, after in parts)


def starts_call(call_format: TextCallFormat, text: str, tools: OfferedTools) -> bool | None:
    """Return whether `text` is the beginning of a call; None if more text is needed.

    `text` is the text after the opener, without white space.
    """
    is_undecided = False
    for before, after in call_format.split_openings:
        if text.startswith(before):
            is_call = not after or _starts_with_tool(text[len(before) :], after, tools)
            if is_call:
                return True
            if is_call is None:
                is_undecided = True
        elif before.startswith(text):
            is_undecided = True
    return None if is_undecided else False


def _starts_with_tool(text: str, after: str, tools: OfferedTools) -> bool | None:
    """Return whether `text` starts with a tool's name and `after`; None if it is too short."""
    name, separator, _ = text.partition(after)
    if separator:
        return tools.find(name) is not None
    if tools.prefixes.any_starts_with(text):
        return None
    for size in range(1, len(after)):
        if text.endswith(after[:size]) and tools.find(text[:-size]) is not None:
            return None
    return False


def read_calls(call_format: TextCallFormat, body: str, tools: OfferedTools) -> TextCalls:
    """Return the calls in `body`, or none if it is other text."""
    try:
        return call_format.read(repair_surrogates(body), tools)
    except ValueError:
        return []
