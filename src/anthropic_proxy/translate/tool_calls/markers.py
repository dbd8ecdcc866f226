"""Sets of markers in text that arrives in pieces."""

import re
from collections.abc import Iterable


class Markers:
    """Several markers, and the beginnings of markers at the end of a text."""

    def __init__(self, markers: Iterable[str]) -> None:
        markers = tuple(markers)
        # Matches the longest marker at a position.
        self.pattern = re.compile(_build_pattern(markers))
        self._beginnings = {marker[:size] for marker in markers for size in range(1, len(marker))}
        self._max_length = max(map(len, markers))

    def may_start(self, text: str, pos: int) -> bool:
        """Return whether more text could make text[pos:] begin with a marker."""
        return text[pos : pos + self._max_length] in self._beginnings

    def measure_beginning(self, text: str, start: int) -> int:
        """Return the length of the longest suffix of text[start:] that may start a marker."""
        end = len(text)
        for size in range(min(self._max_length, end - start), 0, -1):
            if text[end - size :] in self._beginnings:
                return size
        return 0


def _build_pattern(markers: Iterable[str]) -> str:
    """Return a pattern of the markers that reads their common beginnings once."""
    rests: dict[str, list[str]] = {}
    for marker in markers:
        rests.setdefault(marker[:1], []).append(marker[1:])
    # An empty rest ends a marker, and the longer markers come first.
    is_end = rests.pop("", None) is not None
    options = [f"{re.escape(first)}(?:{_build_pattern(group)})" for first, group in rests.items()]
    return "|".join([*options, *[""] * is_end])
