"""Separate reasoning from text if the server sends it as `<think>...</think>`.

DeepSeek R1 and similar models generate these tags, and some servers do not parse them. Only a tag
at the beginning of the response counts, because later tags may be quotations.

Some chat templates open the block themselves, so the response contains only the closing tag. If
this tag is on a separate line, a response that is not streamed is split correctly. In a stream, the
tag arrives too late, but the next responses of the model are split correctly.
"""

from enum import Enum, auto

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
_LONE_CLOSE_TAG = f"\n{CLOSE_TAG}\n"
_SENTENCE_ENDS = tuple(".!?:)…。")
_REASONING_ENDS = (*_SENTENCE_ENDS, "\n")


def has_lone_closing_tag(text: str, *, expects_reasoning: bool = False) -> bool:
    """Return whether a complete text has a closing tag on a separate line, but no opening tag.

    If the client `expects_reasoning`, a single tag directly after a sentence or a word counts too.
    A tag that is part of a sentence or a quotation does not.
    """
    before, close_tag, after = text.partition(CLOSE_TAG)
    if not close_tag or OPEN_TAG in before:
        return False
    if _LONE_CLOSE_TAG in f"\n{text}\n":
        return True
    if not expects_reasoning or CLOSE_TAG in after:
        return False
    # `Enough.</think>Yes` (the tests of llama.cpp).
    if before[-1:].isalnum() or before[-1:] in _REASONING_ENDS:
        return True
    return before.rstrip()[-1:] in _SENTENCE_ENDS and after.startswith("\n")


class _State(Enum):
    # before any text; an opening tag may follow
    START = auto()
    # in the reasoning block
    THINKING = auto()
    # in the white space after the block
    GAP = auto()
    # in the text of the response
    TEXT = auto()


class ThinkTagSplitter:
    """Splits text that arrives in pieces into non-empty pairs (is reasoning, text).

    A possible beginning of a tag is buffered. White space before and after the block is dropped.
    """

    def __init__(self, *, starts_in_thinking: bool = False) -> None:
        """Create a splitter.

        With `starts_in_thinking`, the response is expected to start within a reasoning block.
        """
        self._starts_in_thinking = starts_in_thinking
        self._state = _State.START
        # White space at the beginning of the response.
        self._space: list[str] = []
        # A possible beginning of a tag.
        self._buffer = ""
        self._has_reasoning = False
        # Expected reasoning that no tag has ended yet; None if there is none.
        self._unclosed: list[str] | None = None
        # True during the search for a closing tag without an opening tag.
        self._is_searching = True
        # The end of the text so far, which may contain the beginning of this tag.
        self._tail = ""
        self._has_lone_close = False

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """Return the pairs that are complete after `piece`."""
        if self._is_in(_State.TEXT):
            return self._feed_text(piece)
        if self._is_in(_State.START) and not self._buffer and not piece.strip():
            # A response may start with endless white space, so it is joined only once.
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
        """True if text without `<` passes unchanged; `skip` may then replace `feed`."""
        if self._state is not _State.TEXT:
            return False
        return not (self._is_searching and "<" in self._tail)

    def skip(self, text: str) -> None:
        """Skip text without `<`, whose last piece is `text`."""
        if text:
            # A lone closing tag includes the line break before it.
            self._tail = text[-1]

    def close(self) -> list[tuple[bool, str]]:
        """Return the buffered text at the end of the response."""
        text = "".join((*self._space, self._buffer))
        self._space, self._buffer = [], ""
        is_thinking = self._is_in(_State.THINKING)
        if is_thinking and self._unclosed is not None:
            self._unclosed.append(text)
        return [(is_thinking, text)] if text else []

    @property
    def next_starts_in_thinking(self) -> bool:
        """True if the response so far started within a reasoning block.

        The next responses of the model will start in the same way.
        """
        if self._has_lone_close:
            return True
        return self._starts_in_thinking and not self.get_unclosed_text()

    def get_unclosed_text(self) -> str:
        """Return the expected reasoning if no tag ended it."""
        return "".join(self._unclosed or ())

    def _feed_text(self, piece: str) -> list[tuple[bool, str]]:
        if self._is_searching:
            window = self._tail + piece
            before, close_tag, _ = window.partition(_LONE_CLOSE_TAG)
            self._has_lone_close = bool(close_tag) and OPEN_TAG not in before
            # After an opening tag, for example in a quotation, a closing tag does not count.
            self._is_searching = not close_tag and OPEN_TAG not in before
            self._tail = window[-len(_LONE_CLOSE_TAG) :]
        if not piece:
            return []
        return [(False, piece)]

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
            certain = len(self._buffer) - _measure_overlap(self._buffer, CLOSE_TAG)
            reasoning, self._buffer = self._buffer[:certain], self._buffer[certain:]
        if not self._has_reasoning:
            # If thinking is disabled, some models generate an empty block.
            reasoning = reasoning.lstrip()
            self._has_reasoning = bool(reasoning)
        if self._unclosed is not None:
            self._unclosed.append(reasoning)
        if not reasoning:
            return []
        return [(True, reasoning)]

    def _skip_space(self) -> None:
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._state = _State.TEXT


def _measure_overlap(text: str, tag: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `tag`."""
    for size in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0
