"""Reasoning that a server leaves in the text, as `<think>...</think>` (DeepSeek R1 and its kin behind plain servers).

Only a tag at the very beginning of the answer counts: later ones may be quoted, in code above all. Some chat templates open
the block themselves, so that only its closing tag is in the answer. A whole answer shows that when the tag stands on a line
of its own; a stream shows it when it is too late, but the next answers of that model can be read right.
"""

from enum import Enum, auto

OPEN, CLOSE = "<think>", "</think>"
_LONE_CLOSE = f"\n{CLOSE}\n"


def opens_unseen(text: str) -> bool:
    """Whether a whole answer begins within a block, as its chat template has opened it."""
    before, closed, _ = text.partition(CLOSE)
    return bool(closed) and OPEN not in before and _LONE_CLOSE in f"\n{text}\n"


class _Place(Enum):
    START = auto()
    THINKING = auto()
    GAP = auto()
    TEXT = auto()


class ThinkSplitter:
    """Splits text that comes in pieces into (is reasoning, text) pairs, none of them empty.

    What could still be the beginning of a tag is held back. The white space around the block goes. With `opened` the answer
    begins within the block.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._lone_close = False
        self._looks = True
        self._space: list[str] = []
        self._held = ""
        self._opened = opened
        self._place = _Place.START
        self._begun = False
        self._unclosed: list[str] | None = None
        self._tail = ""

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """What is decided with `piece`."""
        if self._at(_Place.TEXT):
            return self._text(piece)
        if self._at(_Place.START) and not self._held and (not piece or piece.isspace()):
            self._space.append(piece)
            return []
        self._held = "".join((*self._space, self._held, piece))
        self._space = []
        pairs: list[tuple[bool, str]] = []
        if self._at(_Place.START):
            self._begin()
        if self._at(_Place.THINKING):
            pairs += self._think()
        if self._at(_Place.GAP):
            self._skip_space()
        if self._at(_Place.TEXT):
            text, self._held = self._held, ""
            pairs += self._text(text)
        return pairs

    def passes(self, piece: str) -> bool:
        """Whether `piece` is text and nothing else; then it need not be fed."""
        if not self._at(_Place.TEXT):
            return False
        if self._looks:
            if "<" in piece or "<" in self._tail:
                return False
            # A closing tag may begin with the line's end before it.
            self._tail = piece[-1:]
        return True

    def close(self) -> list[tuple[bool, str]]:
        """What is still held back, at the end of the answer."""
        text = "".join((*self._space, self._held))
        self._space, self._held = [], ""
        thinking = self._at(_Place.THINKING)
        if thinking and self._unclosed is not None:
            self._unclosed.append(text)
        return [(thinking, text)] if text else []

    @property
    def opens(self) -> bool:
        """Whether the answer began within a block, as far as is known by now: then the model's next ones will too."""
        return self._lone_close or (self._opened and not self.unclosed())

    def unclosed(self) -> str:
        """What was taken for reasoning because the answer was to begin with it, when no tag ever ended it."""
        return "".join(self._unclosed or ())

    def _text(self, piece: str) -> list[tuple[bool, str]]:
        if self._looks:
            seen = self._tail + piece
            before, closed, _ = seen.partition(_LONE_CLOSE)
            self._lone_close = bool(closed) and OPEN not in before
            # Behind an opening tag (an example, or the model's own) a closing one says nothing.
            self._looks = not closed and OPEN not in before
            self._tail = seen[-len(_LONE_CLOSE) :]
        return [(False, piece)] if piece else []

    def _at(self, place: _Place) -> bool:
        return self._place is place

    def _begin(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held = begun.removeprefix(OPEN)
            self._looks = False
            self._place = _Place.THINKING
        elif not OPEN.startswith(begun):
            self._place = _Place.THINKING if self._opened else _Place.TEXT
            self._unclosed = [] if self._opened else None

    def _think(self) -> list[tuple[bool, str]]:
        reasoning, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._unclosed = None
            self._held = rest
            self._place = _Place.GAP
        else:
            kept = _overlap(self._held, CLOSE)
            reasoning, self._held = (
                self._held[: len(self._held) - kept],
                self._held[len(self._held) - kept :],
            )
        if not self._begun:
            # Models that were told not to think leave an empty block.
            reasoning = reasoning.lstrip()
            self._begun = bool(reasoning)
        if self._unclosed is not None:
            self._unclosed.append(reasoning)
        return [(True, reasoning)] if reasoning else []

    def _skip_space(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._place = _Place.TEXT


def _overlap(text: str, tag: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `tag`, and not all of it."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(tag[:size])), 0)
