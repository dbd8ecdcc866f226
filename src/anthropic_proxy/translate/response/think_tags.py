"""Separate reasoning from text if the server sends it between tags, such as `<think>...</think>`.

Models generate these tags, and some servers do not parse them. Only a tag at the beginning of the
response counts, because later tags may be quotations. The first tag may be a quotation too: without
a closing tag, it and the text after it are text if the response has no other text
(`get_unclosed_text`).

A response of gpt-oss consists of messages with a header and an end token. Tokens that no header and
no end of the response follows are quotations.

If the server also sends reasoning in its own field, a closing tag at the beginning of the text is a
leftover of its parser and is dropped.

Some chat templates open the block themselves, so the response contains only the closing tag. If
this tag is on a separate line, a response that is not streamed is split correctly; if the client
requested thinking, other positions than those of a quotation are enough. In a stream, the tag
arrives too late, but the next responses of the model are split correctly.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class _Format:
    """The tags around the reasoning of a kind of models."""

    open_tag: str
    # the first of them ends the reasoning
    close_tags: tuple[str, ...]
    # a tag that may precede the other tags; alone it belongs to the text
    prefix: str | None = None
    # tags at the beginning of a text
    own_text_tags: tuple[str, ...] = ()
    # tags at the end of a text, before the next message or the end of the response
    text_ends: tuple[str, ...] = ()
    # whether chat templates may open the block
    may_be_opened: bool = True

    @property
    def open_tags(self) -> tuple[str, ...]:
        return self._add_prefix(self.open_tag)

    @property
    def text_tags(self) -> tuple[str, ...]:
        tags = [tag for own_tag in self.own_text_tags for tag in self._add_prefix(own_tag)]
        if self.prefix is not None:
            # A message without a channel is a text.
            tags.append(f"{self.prefix}<|message|>")
        return tuple(tags)

    def _add_prefix(self, tag: str) -> tuple[str, ...]:
        if self.prefix is None:
            return (tag,)
        return (tag, f"{self.prefix}{tag}", f"{self.prefix} {tag}")


_FORMATS = (
    # DeepSeek R1, Qwen3, GLM, MiniMax M2 and many others.
    _Format("<think>", ("</think>",)),
    # Magistral. huggingface.co/mistralai/Magistral-Small-2507
    _Format("[THINK]", ("[/THINK]",)),
    # MiniMax M3.
    _Format("<mm:think>", ("</mm:think>",)),
    # Seed-OSS. huggingface.co/ByteDance-Seed/Seed-OSS-36B-Instruct
    _Format("<seed:think>", ("</seed:think>",)),
    # Kimi-VL and Kimi K1.5. huggingface.co/moonshotai/Kimi-VL-A3B-Thinking
    _Format("◁think▷", ("◁/think▷",)),
    # Gemma 4.
    _Format("<|channel>thought", ("<channel|>",), may_be_opened=False),
    # gpt-oss. cookbook.openai.com/articles/openai-harmony. Some servers drop `<|end|>`. The channel
    # `commentary` contains texts before calls, and the calls (see tool_calls/text_formats).
    _Format(
        "<|channel|>analysis<|message|>",
        ("<|end|>", "<|start|>assistant", "<|channel|>final<|message|>"),
        prefix="<|start|>assistant",
        own_text_tags=("<|channel|>final<|message|>", "<|channel|>commentary<|message|>"),
        text_ends=("<|end|>", "<|return|>"),
        may_be_opened=False,
    ),
)
_FORMAT_BY_OPEN_TAG = {tag: each for each in _FORMATS for tag in each.open_tags}
_FORMAT_BY_TEXT_TAG = {tag: each for each in _FORMATS for tag in each.text_tags}
# At the beginning of a response.
_FIRST_TAGS = (*_FORMAT_BY_OPEN_TAG, *_FORMAT_BY_TEXT_TAG)

# Each tag before a text costs a copy of the rest. Responses of models have a few.
_MAX_TAGS = 32
# The beginnings of headers after the end of a text.
_HEADERS = ("<|start|>", "<|channel|>")
_HEADER_LENGTH = max(map(len, _HEADERS))
_SPACE = re.compile(r"\s*")
# The maximum length of white space between messages.
_MAX_GAP = 100
# The separator of two texts.
_TEXT_SEPARATOR = "\n\n"


def _compile(tags: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tags)))


_OPENABLE_FORMATS = tuple(each for each in _FORMATS if each.may_be_opened)
_CLOSE_TAGS = tuple(tag for each in _OPENABLE_FORMATS for tag in each.close_tags)
# The format of reasoning whose opening tag is in the prompt.
_UNKNOWN_FORMAT = _Format("", _CLOSE_TAGS)
_CLOSE_PATTERNS = {each: _compile(each.close_tags) for each in (*_FORMATS, _UNKNOWN_FORMAT)}
_TEXT_END_PATTERNS = {each: _compile(each.text_ends) for each in _FORMATS if each.text_ends}
_OPEN_TAG = _compile(each.open_tag for each in _OPENABLE_FORMATS)
_CLOSE_TAG = _compile(_CLOSE_TAGS)
# In a stream, text without `<` skips the splitter.
_ANGLE_OPEN_TAG = _compile(tag for tag in _FORMAT_BY_OPEN_TAG if tag.startswith("<"))
_SEPARATE_CLOSE_TAG = _compile(f"\n{tag}\n" for tag in _CLOSE_TAGS)
_LONE_CLOSE_TAGS = tuple(f"\n{tag}\n" for tag in _CLOSE_TAGS if tag.startswith("<"))
_LONE_CLOSE_TAG = _compile(_LONE_CLOSE_TAGS)
_MAX_LONE_LENGTH = max(map(len, _LONE_CLOSE_TAGS))

# Opening and closing quotation marks include those of other languages.
_QUOTES = frozenset("`'\"()[]{}\u2018\u2019\u201c\u201d\u00ab\u00bb")
_PUNCTUATION = frozenset(" \t.,;:!?")


def has_lone_closing_tag(text: str, *, expects_reasoning: bool = False) -> bool:
    """Return whether a complete text starts with reasoning that only a closing tag ends.

    The tag is on a separate line, or, if the client `expects_reasoning`, in another position than
    that of a quotation.
    """
    close_tag = _CLOSE_TAG.search(text)
    if close_tag is None or _OPEN_TAG.search(text, 0, close_tag.start()):
        return False
    if _SEPARATE_CLOSE_TAG.search(f"\n{text}\n"):
        return True
    return expects_reasoning and not _is_quoted(text, close_tag)


def starts_with_closing_tag(text: str) -> bool:
    """Return whether a text, apart from white space, begins with a closing tag."""
    return text.lstrip().startswith(_CLOSE_TAGS)


def _is_quoted(text: str, close_tag: re.Match[str]) -> bool:
    """Return whether the text mentions a closing tag."""
    if _CLOSE_TAG.search(text, close_tag.end()) or text.count("```", 0, close_tag.start()) % 2:
        return True
    before, after = text[: close_tag.start()][-1:], text[close_tag.end() :][:1]
    if before in _QUOTES or after in _QUOTES:
        return True
    return before in (" ", "\t") and after in _PUNCTUATION


class _State(Enum):
    # before any text; an opening tag may follow
    START = auto()
    # in the reasoning block
    THINKING = auto()
    # in the white space after the block
    GAP = auto()
    # in a text that a tag may end
    MESSAGE = auto()
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
        self._format = _UNKNOWN_FORMAT
        self._tag_count = 0
        # White space at the beginning of the response.
        self._space: list[str] = []
        # A possible beginning of a tag.
        self._buffer = ""
        self._has_reasoning = False
        # The text after the first tag, or expected reasoning; None after a closing tag.
        self._unclosed: list[str] | None = None
        # The first tag, with the white space before it.
        self._first_tag = ""
        # True if a message had text.
        self._has_message = False
        self._follows_reasoning = False
        # True during the search for a closing tag without an opening tag.
        self._is_searching = True
        # The end of the text so far, which may contain the beginning of this tag.
        self._tail = ""
        self._has_lone_close = False

    def drop_first_closing_tag(self) -> None:
        """Drop a closing tag at the beginning of the text: reasoning precedes it."""
        self._follows_reasoning = True

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """Return the pairs that are complete after `piece`."""
        if self._state is _State.TEXT:
            return self._feed_text(piece)
        is_blank = self._state is _State.START and not self._buffer and not piece.strip()
        if is_blank and not self._tag_count:
            # A response may start with endless white space, so it is joined only once.
            self._space.append(piece)
            return []
        self._buffer = "".join((*self._space, self._buffer, piece))
        self._space = []
        pairs: list[tuple[bool, str]] = []
        state = None
        # Each state but the last one waits for more text, or takes a tag from the buffer.
        while state is not self._state:
            state = self._state
            pairs += self._feed_buffer(state)
        return pairs

    def _feed_buffer(self, state: _State) -> list[tuple[bool, str]]:
        if state is _State.START:
            self._detect_open_tag()
        elif state is _State.THINKING:
            return self._feed_thinking()
        elif state is _State.GAP:
            self._skip_gap()
        elif state is _State.MESSAGE:
            return self._feed_message()
        else:
            text, self._buffer = self._buffer, ""
            return self._feed_text(text)
        return []

    @property
    def is_idle(self) -> bool:
        """True if text without `<` passes unchanged; `skip` may then replace `feed`."""
        if self._state is _State.MESSAGE:
            return not self._buffer
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
        is_thinking = self._state is _State.THINKING
        if is_thinking and self._unclosed is not None:
            self._unclosed.append(text)
        if self._state is _State.MESSAGE and text.rstrip() in self._format.text_ends:
            return []
        return [(is_thinking, text)] if text else []

    @property
    def next_starts_in_thinking(self) -> bool:
        """True if the response so far started within a reasoning block.

        The next responses of the model will start in the same way.
        """
        if self._has_lone_close:
            return True
        return self._starts_in_thinking and (self.has_first_tag or not self.get_unclosed_text())

    @property
    def has_first_tag(self) -> bool:
        """True if the response begins with a tag."""
        return bool(self._first_tag)

    def get_unclosed_text(self, *, includes_tag: bool = True) -> str:
        """Return the text that is no reasoning if the response has no other text.

        It is the first tag and the text after it, or expected reasoning, which no tag ended.
        """
        if self._unclosed is None:
            return ""
        return "".join((self._first_tag if includes_tag else "", *self._unclosed))

    def _feed_text(self, piece: str) -> list[tuple[bool, str]]:
        if self._is_searching:
            window = self._tail + piece
            close_tag = _LONE_CLOSE_TAG.search(window)
            end = close_tag.start() if close_tag else len(window)
            # After an opening tag, for example in a quotation, a closing tag does not count.
            has_open_tag = _ANGLE_OPEN_TAG.search(window, 0, end) is not None
            self._has_lone_close = close_tag is not None and not has_open_tag
            self._is_searching = close_tag is None and not has_open_tag
            self._tail = window[-_MAX_LONE_LENGTH:]
        if not piece:
            return []
        return [(False, piece)]

    def _detect_open_tag(self) -> None:
        start = self._buffer.lstrip()
        first_tags = _FIRST_TAGS
        if self._follows_reasoning:
            first_tags += _CLOSE_TAGS
        tag = self._find_next_tag(start, first_tags)
        if tag is not None and tag in _CLOSE_TAGS:
            self._buffer, self._state = start.removeprefix(tag), _State.GAP
            return
        if tag is not None:
            self._take_tag(tag, start)
            return
        if not _may_start_tag(start, first_tags):
            self._state = _State.THINKING if self._starts_in_thinking else _State.TEXT
            self._unclosed = [] if self._starts_in_thinking else None

    def _find_next_tag(self, text: str, tags: Iterable[str]) -> str | None:
        """Return the tag at the beginning of `text`, or None, also if there were too many."""
        tag = next((tag for tag in tags if text.startswith(tag)), None)
        if tag is None or self._tag_count >= _MAX_TAGS:
            return None
        self._tag_count += 1
        return tag

    def _take_tag(self, tag: str, text: str) -> None:
        """Start reasoning or text after `tag`, which is the beginning of `text`."""
        rest = text.removeprefix(tag)
        if self._tag_count == 1:
            self._first_tag = self._buffer.removesuffix(rest)
            self._unclosed = []
        self._buffer = rest
        self._is_searching = False
        if tag in _FORMAT_BY_OPEN_TAG:
            self._format = _FORMAT_BY_OPEN_TAG[tag]
            self._state = _State.THINKING
        else:
            self._format = _FORMAT_BY_TEXT_TAG[tag]
            self._start_text()

    def _start_text(self) -> None:
        self._state = _State.MESSAGE if self._format.text_ends else _State.TEXT
        if self._has_message:
            self._buffer = _TEXT_SEPARATOR + self._buffer

    def _feed_thinking(self) -> list[tuple[bool, str]]:
        close_tag = _CLOSE_PATTERNS[self._format].search(self._buffer)
        if close_tag is not None:
            reasoning = self._buffer[: close_tag.start()]
            self._unclosed = None
            # The prefix may be the beginning of a tool call, so it stays in the buffer.
            is_prefix = close_tag[0] == self._format.prefix
            self._buffer = self._buffer[close_tag.start() if is_prefix else close_tag.end() :]
            self._state = _State.GAP
            if close_tag[0] in _FORMAT_BY_TEXT_TAG:
                self._start_text()
        else:
            certain = len(self._buffer) - _measure_overlap(self._buffer, self._format.close_tags)
            reasoning, self._buffer = self._buffer[:certain], self._buffer[certain:]
        if self._unclosed is not None:
            self._unclosed.append(reasoning)
        if not self._has_reasoning:
            # If thinking is disabled, some models generate an empty block.
            reasoning = reasoning.lstrip()
            self._has_reasoning = bool(reasoning)
        if not reasoning:
            return []
        return [(True, reasoning)]

    def _skip_gap(self) -> None:
        """Skip white space. More reasoning or a tag of the text may follow."""
        self._buffer = self._buffer.lstrip()
        tags = self._format.text_tags
        if tags:
            tags = (*tags, *self._format.open_tags)
        tag = self._find_next_tag(self._buffer, tags)
        if tag is not None:
            self._take_tag(tag, self._buffer)
        elif not self._buffer or _may_start_tag(self._buffer, tags):
            return
        elif self._buffer.startswith(_HEADERS):
            # The header of a call.
            self._state = _State.TEXT
        else:
            self._start_text()

    def _feed_message(self) -> list[tuple[bool, str]]:
        """Return the text up to a tag that ends it, or that more text could make end it."""
        text = self._buffer
        ready = len(text) - _measure_overlap(text, self._format.text_ends)
        rest = ready
        for end in _TEXT_END_PATTERNS[self._format].finditer(text):
            gap_end = end.end() + _MAX_GAP
            gap = _SPACE.match(text, end.end(), gap_end)
            after = gap.end() if gap else end.end()
            header = text[after : after + _HEADER_LENGTH]
            if header.startswith(_HEADERS):
                ready, rest = end.start(), after
                self._state = _State.GAP
                break
            if after < gap_end and _may_start_tag(header, _HEADERS):
                ready = rest = end.start()
                break
        self._buffer = text[rest:]
        if not ready:
            return []
        self._has_message = True
        return [(False, text[:ready])]


def _may_start_tag(text: str, tags: Iterable[str]) -> bool:
    """Return whether more text could make `text` begin with a tag."""
    return any(tag.startswith(text) for tag in tags)


def _measure_overlap(text: str, tags: tuple[str, ...]) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of a tag."""
    longest = max(map(len, tags)) - 1
    for size in range(min(len(text), longest), 0, -1):
        suffix = text[-size:]
        if any(len(tag) > size and tag.startswith(suffix) for tag in tags):
            return size
    return 0
