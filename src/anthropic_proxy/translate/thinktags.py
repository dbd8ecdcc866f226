"""Reasoning that a server leaves in the text, as `<think>...</think>` (DeepSeek R1 and its kin behind plain servers).

Only a tag at the very beginning of the answer counts: later ones may be quoted, in code above all. For the same reason a
closing tag alone, which a template that opens the tag itself leaves behind, stays text.
"""

from enum import Enum, auto

from anthropic_proxy.translate.stops import overlap

OPEN, CLOSE = "<think>", "</think>"


class _Place(Enum):
    START = auto()
    THINKING = auto()
    GAP = auto()
    TEXT = auto()


class ThinkSplitter:
    """Splits text that comes in pieces into (is reasoning, text) pairs, none of them empty.

    What could still be the beginning of a tag is held back. The white space around the block goes.
    """

    def __init__(self) -> None:
        self._held = ""
        self._place = _Place.START
        self._begun = False

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """What is decided with `piece`."""
        if self._at(_Place.TEXT):
            return [(False, piece)] if piece else []
        self._held += piece
        pairs: list[tuple[bool, str]] = []
        if self._at(_Place.START):
            self._begin()
        if self._at(_Place.THINKING):
            pairs += self._think()
        if self._at(_Place.GAP):
            self._skip_space()
        if self._at(_Place.TEXT):
            pairs += self.close()
        return pairs

    def close(self) -> list[tuple[bool, str]]:
        """What is still held back, at the end of the answer."""
        text, self._held = self._held, ""
        return [(self._at(_Place.THINKING), text)] if text else []

    def _at(self, place: _Place) -> bool:
        return self._place is place

    def _begin(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held = begun.removeprefix(OPEN)
            self._place = _Place.THINKING
        elif not OPEN.startswith(begun):
            self._place = _Place.TEXT

    def _think(self) -> list[tuple[bool, str]]:
        reasoning, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._held = rest
            self._place = _Place.GAP
        else:
            kept = overlap(self._held, CLOSE)
            reasoning, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        if not self._begun:
            # Models that were told not to think leave an empty block.
            reasoning = reasoning.lstrip()
            self._begun = bool(reasoning)
        return [(True, reasoning)] if reasoning else []

    def _skip_space(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._place = _Place.TEXT
