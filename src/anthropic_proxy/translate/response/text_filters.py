"""Filters for the text of a response.

The first filter removes the prefill if the upstream repeats it, the second reduces a structured
response to its JSON document, and the last searches for stop sequences.
"""

import re
from collections import deque
from itertools import islice

from anthropic_proxy.translate.request.prefill import PrefillStripper
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import InvalidJsonError, loads_first

# A code fence may have a short language name.
_OPENING = re.compile(r"\s*+(?:```\w{0,30}+\s*+)?+(?=[{\[])")
_BEGINNING = re.compile(r"\s*+(?:```\w{0,30}+\s*+|`{1,3}+)?+")
_BRACKET = re.compile(r"[{\[]")
# The maximum number of brackets in a text that are tried as the start of a document.
_MAX_TRIES = 50


class ResponseTextFilter:
    """Filters text that arrives in pieces. After a stop sequence, it returns no more text."""

    def __init__(self, spec: ResponseSpec) -> None:
        # True if the filters never change the text.
        self.is_passthrough = not (spec.prefill or spec.is_structured or spec.stop_sequences)
        self._prefill = PrefillStripper(spec.prefill)
        self._json = JsonTextFilter() if spec.is_structured else None
        self._scanner = StopSequenceScanner(spec.stop_sequences)

    @property
    def matched_stop_sequence(self) -> str | None:
        return self._scanner.match

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        return self._apply_filters(self._prefill.feed(piece))

    def flush(self) -> str:
        """Return the buffered text at the end of a text block. It may contain a stop sequence."""
        text = self._apply_filters(self._prefill.close())
        if self._json is not None:
            document_end = self._json.close()
            # The next text block is a separate document.
            self._json = JsonTextFilter()
            text += self._scanner.feed(document_end)
        return text + self._scanner.flush()

    def _apply_filters(self, text: str) -> str:
        if self._json is not None:
            text = self._json.feed(text)
        return self._scanner.feed(text)


class JsonTextFilter:
    """Reduces the text of a structured response to its JSON document.

    The SDKs parse all text of such a response and fail on code fences and introductions, which
    upstreams send if they do not enforce the schema. A document at the beginning, also in a code
    fence, is sent as it arrives, and text after it is dropped. A text with another beginning is
    buffered until its end and reduced to the longest document in it. A text without a document is
    sent unchanged.
    """

    def __init__(self) -> None:
        self._buffer: list[str] = []
        self._waits_for_end = False
        self._scanner: JsonScanner | None = None

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        if self._scanner is not None:
            return self._feed_document(self._scanner, piece)
        self._buffer.append(piece)
        # Models that must generate JSON may generate endless white space, which is not searched.
        if self._waits_for_end or piece.isspace():
            return ""
        text = "".join(self._buffer)
        opening = _OPENING.match(text)
        if opening is not None:
            self._scanner, self._buffer = JsonScanner(), []
            return self._feed_document(self._scanner, text[opening.end() :])
        self._waits_for_end = _BEGINNING.fullmatch(text) is None
        self._buffer = [text]
        return ""

    def close(self) -> str:
        """Return the rest at the end of the text."""
        text, self._buffer = "".join(self._buffer), []
        if _BEGINNING.fullmatch(text):
            return text.strip()
        return _find_longest_document(text)

    def _feed_document(self, scanner: JsonScanner, piece: str) -> str:
        """Return the part of `piece` that is part of the document.

        After an error in the document, all text is returned.
        """
        was_complete = scanner.is_complete
        end = len(piece)
        if scanner.is_valid:
            end = scanner.feed(piece)
        if was_complete:
            return ""
        if scanner.is_complete:
            return piece[:end].rstrip()
        return piece


def _find_longest_document(text: str) -> str:
    """Return the longest JSON object or array in `text`, or `text` if there is none.

    The search stops when failed attempts have read as many characters as the text has.
    """
    longest, min_start, wasted = text, 0, 0
    for bracket in islice(_BRACKET.finditer(text), _MAX_TRIES):
        start = bracket.start()
        if start < min_start or wasted > len(text):
            continue
        try:
            _, end = loads_first(text, start)
        except InvalidJsonError as error:
            wasted += error.end - start
            continue
        if not min_start or end - start > len(longest):
            longest, min_start = text[start:end], end
    return longest


class StopSequenceScanner:
    """Searches for stop sequences in a text that arrives in pieces.

    `feed` returns the text before a possible match and buffers only a possible beginning of a
    match. After a match, no more text is returned. The sequence that is complete first matches, and
    of several such sequences the longest; the result does not depend on the boundaries of pieces.

    Upstreams cannot do this: almost none reports which sequence matched (vLLM does), some do not
    accept `stop` (GPT-5), some keep the sequence in the text (transformers), and none accepts more
    than four.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._automaton = _Automaton(sequences) if sequences else None
        self._state = _ROOT
        # The sequence that matched.
        self.match: str | None = None

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        if self.match is not None:
            return ""
        if self._automaton is None:
            return piece
        held_text = self._automaton.get_prefix(self._state)
        state, end, self.match = self._automaton.search(self._state, piece)
        # The last part of the text, which is not returned: a match or a possible beginning.
        held_end = self.match
        self._state = _ROOT
        if held_end is None:
            held_end = self._automaton.get_prefix(state)
            self._state = state
        ready = len(held_text) + end - len(held_end)
        return held_text[:ready] + piece[: max(ready - len(held_text), 0)]

    def flush(self) -> str:
        """Return the buffered text at the end of a block, which is not a match."""
        state, self._state = self._state, _ROOT
        if self._automaton is None:
            return ""
        return self._automaton.get_prefix(state)


# The initial state of an automaton.
_ROOT = 0


class _Automaton:
    """The automaton of Aho and Corasick (1975), which finds all sequences in one pass.

    A state represents the longest suffix of the text that is a prefix of a sequence. A character
    leads to the state of a longer prefix, if there is one. Otherwise it is tried in the fallback
    state, which represents the longest proper suffix that is also a prefix of a sequence.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallbacks = [_ROOT]
        # For each state: a sequence with this prefix, and the length of the prefix.
        self._prefixes = [("", 0)]
        # For each state: the longest sequence that ends in it.
        self._matches: list[str | None] = [None]
        for sequence in sequences:
            self._add(sequence)
        self._set_fallbacks()
        self._first_characters = re.compile(f"[{re.escape(''.join(self._next[_ROOT]))}]")

    def get_prefix(self, state: int) -> str:
        """Return the prefix that a state represents."""
        sequence, size = self._prefixes[state]
        return sequence[:size]

    def search(self, state: int, text: str) -> tuple[int, int, str | None]:
        """Search `text` for the first match.

        Return the new state, the end position of the search, and the matched sequence or None.
        """
        pos = 0
        while pos < len(text):
            if state == _ROOT:
                match = self._first_characters.search(text, pos)
                if match is None:
                    break
                pos = match.start()
            state = self._step(state, text[pos])
            pos += 1
            if self._matches[state] is not None:
                return state, pos, self._matches[state]
        return state, len(text), None

    def _add(self, sequence: str) -> None:
        state = _ROOT
        for size, character in enumerate(sequence, 1):
            state = self._next[state].setdefault(character, len(self._next))
            if state == len(self._next):
                self._next.append({})
                self._fallbacks.append(_ROOT)
                self._prefixes.append((sequence, size))
                self._matches.append(None)
        self._matches[state] = sequence

    def _set_fallbacks(self) -> None:
        """Set the fallbacks in order of prefix length: longer prefixes depend on shorter ones."""
        states = deque(self._next[_ROOT].values())
        while states:
            state = states.popleft()
            fallback = self._fallbacks[state]
            if self._matches[state] is None:
                self._matches[state] = self._matches[fallback]
            for character, longer in self._next[state].items():
                self._fallbacks[longer] = self._step(fallback, character)
                states.append(longer)

    def _step(self, state: int, character: str) -> int:
        while state != _ROOT and character not in self._next[state]:
            state = self._fallbacks[state]
        return self._next[state].get(character, _ROOT)
