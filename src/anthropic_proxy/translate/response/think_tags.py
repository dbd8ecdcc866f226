"""Reasoning that a server leaves in the text, as `<think>...</think>` (DeepSeek R1 and its kin behind plain servers).

Only a tag at the very beginning of the answer counts: later ones may be quoted, in code above all. Some chat templates open
the block themselves, so that only its closing tag is in the answer. A whole answer shows that when the tag stands on a line
of its own; a stream shows it when it is too late, but the next answers of that model can be read right.
"""

from enum import Enum, auto

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
_LONE_CLOSE_TAG = f"\n{CLOSE_TAG}\n"


def has_lone_closing_tag(text: str) -> bool:
    """Return whether a complete response begins within a block that its chat template opened."""
    before, close_tag, _ = text.partition(CLOSE_TAG)
    return bool(close_tag) and OPEN_TAG not in before and _LONE_CLOSE_TAG in f"\n{text}\n"


class _State(Enum):
    START = auto()
    THINKING = auto()
    GAP = auto()
    TEXT = auto()


class ThinkTagSplitter:
    """Splits text that comes in pieces into (is reasoning, text) pairs, none of them empty.

    A possible beginning of a tag is held. White space around the block is dropped. With `starts_in_thinking` the response
    begins within the block.
    """

    def __init__(self, *, starts_in_thinking: bool = False) -> None:
        self._has_lone_close = False
        self._is_searching = True
        self._space: list[str] = []
        self._buffer = ""
        self._starts_in_thinking = starts_in_thinking
        self._state = _State.START
        self._has_reasoning = False
        self._unclosed: list[str] | None = None
        self._tail = ""

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """Return the pairs that are certain after `piece`."""
        if self._is_in(_State.TEXT):
            return self._feed_text(piece)
        if self._is_in(_State.START) and not self._buffer and (not piece or piece.isspace()):
            self._space.append(piece)
            return []
        self._buffer = "".join((*self._space, self._buffer, piece))
        self._space = []
        pairs: list[tuple[bool, str]] = []
        if self._is_in(_State.START):
            self._detect_open_tag()
        if self._is_in(_State.THINKING):
            pairs += self._feed_thinking()
        if self._is_in(_State.GAP):
            self._skip_space()
        if self._is_in(_State.TEXT):
            text, self._buffer = self._buffer, ""
            pairs += self._feed_text(text)
        return pairs

    @property
    def is_idle(self) -> bool:
        """Whether text without `<` passes unchanged, so that `skip` may replace `feed`."""
        if self._state is not _State.TEXT:
            return False
        return not (self._is_searching and "<" in self._tail)

    def skip(self, text: str) -> None:
        """Count text without `<` as read, of which `text` is the last piece."""
        if text:
            # A closing tag may begin with the line break before it.
            self._tail = text[-1]

    def close(self) -> list[tuple[bool, str]]:
        """Return the held text at the end of the response."""
        text = "".join((*self._space, self._buffer))
        self._space, self._buffer = [], ""
        is_thinking = self._is_in(_State.THINKING)
        if is_thinking and self._unclosed is not None:
            self._unclosed.append(text)
        return [(is_thinking, text)] if text else []

    @property
    def next_starts_in_thinking(self) -> bool:
        """Whether the response began within a block, as far as it was read: the model's next responses will do so, too."""
        return self._has_lone_close or (self._starts_in_thinking and not self.get_unclosed_text())

    def get_unclosed_text(self) -> str:
        """Return the text read as reasoning because the response was expected to begin with it, if no tag ended it."""
        return "".join(self._unclosed or ())

    def _feed_text(self, piece: str) -> list[tuple[bool, str]]:
        if self._is_searching:
            window = self._tail + piece
            before, close_tag, _ = window.partition(_LONE_CLOSE_TAG)
            self._has_lone_close = bool(close_tag) and OPEN_TAG not in before
            # Behind an opening tag (an example, or the model's own) a closing one says nothing.
            self._is_searching = not close_tag and OPEN_TAG not in before
            self._tail = window[-len(_LONE_CLOSE_TAG) :]
        return [(False, piece)] if piece else []

    def _is_in(self, state: _State) -> bool:
        return self._state is state

    def _detect_open_tag(self) -> None:
        start = self._buffer.lstrip()
        if start.startswith(OPEN_TAG):
            self._buffer = start.removeprefix(OPEN_TAG)
            self._is_searching = False
            self._state = _State.THINKING
        elif not OPEN_TAG.startswith(start):
            self._state = _State.THINKING if self._starts_in_thinking else _State.TEXT
            self._unclosed = [] if self._starts_in_thinking else None

    def _feed_thinking(self) -> list[tuple[bool, str]]:
        reasoning, close_tag, rest = self._buffer.partition(CLOSE_TAG)
        if close_tag:
            self._unclosed = None
            self._buffer = rest
            self._state = _State.GAP
        else:
            overlap = _measure_overlap(self._buffer, CLOSE_TAG)
            reasoning, self._buffer = (
                self._buffer[: len(self._buffer) - overlap],
                self._buffer[len(self._buffer) - overlap :],
            )
        if not self._has_reasoning:
            # Models that were told not to think leave an empty block.
            reasoning = reasoning.lstrip()
            self._has_reasoning = bool(reasoning)
        if self._unclosed is not None:
            self._unclosed.append(reasoning)
        return [(True, reasoning)] if reasoning else []

    def _skip_space(self) -> None:
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._state = _State.TEXT


def _measure_overlap(text: str, tag: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `tag`, and not all of it."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(tag[:size])), 0)
