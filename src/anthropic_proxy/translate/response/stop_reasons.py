"""Why an answer ended: the table of finish reasons, and the scanner for the client's stop sequences.

The scanner is ours because almost no upstream says which sequence it met (vLLM does), some don't take `stop` at all
(GPT-5), some leave the sequence in the text (transformers), and none takes more than four.
"""

import re
from collections import deque

from anthropic_proxy.wire.json_codec import JsonObject

# Chat Completions' own words first, then what is met in the field.
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
    "eos": "end_turn",
    "STOP": "end_turn",
    "MAX_TOKENS": "max_tokens",
    "model_length": "model_context_window_exceeded",
    "SAFETY": "refusal",
    "sensitive": "refusal",
}

# With these the answer is cut or refused, whatever else is in it.
_FINAL_REASONS = frozenset({"max_tokens", "refusal", "model_context_window_exceeded"})


def to_stop_fields(finish_reason: str, *, has_calls: bool, refusal: str = "") -> JsonObject:
    """Return stop_reason, stop_sequence and, for a refusal, stop_details.

    An answer with tool calls ends in `tool_use` even when the upstream says `stop` (Ollama, vLLM with a named tool,
    Gemini), and one without never does: clients act on it.
    """
    reason = "refusal" if refusal else STOP_REASONS.get(finish_reason, "end_turn")
    if reason not in _FINAL_REASONS:
        reason = "tool_use" if has_calls else "end_turn"
    stop: JsonObject = {"stop_reason": reason, "stop_sequence": None}
    if reason == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal or None}
    return stop


def to_stop_sequence_fields(sequence: str) -> JsonObject:
    """Return the stop fields of a response that matched one of the caller's stop sequences."""
    return {"stop_reason": "stop_sequence", "stop_sequence": sequence}


def is_truncated(finish_reason: str) -> bool:
    """Return whether a token limit ended the response."""
    return STOP_REASONS.get(finish_reason) in ("max_tokens", "model_context_window_exceeded")


class StopSequenceScanner:
    """Looks for stop sequences in a text that comes in pieces.

    `feed` returns the text that certainly precedes any match, and holds only what may be the beginning of one. After a
    match `match` is the sequence, and no more text follows. Of several, the one that is complete first wins, then the
    longer: the result does not depend on how the text is cut.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._automaton = _Automaton(sequences) if sequences else None
        self._state = _ROOT
        self.match: str | None = None

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        if self.match is not None:
            return ""
        if self._automaton is None:
            return piece
        held_text = self._automaton.get_prefix(self._state)
        state, end, self.match = self._automaton.search(self._state, piece)
        self._state = state if self.match is None else _ROOT
        ready = len(held_text) + end - len(self.match or self._automaton.get_prefix(state))
        return held_text[:ready] + piece[: max(ready - len(held_text), 0)]

    def flush(self) -> str:
        """Return the held text at the end of a block: it is no match."""
        state, self._state = self._state, _ROOT
        return self._automaton.get_prefix(state) if self._automaton else ""


# The state of an automaton in which no beginning of a sequence has been read.
_ROOT = 0


class _Automaton:
    """The automaton of Aho and Corasick (1975): all sequences are searched for in one pass over the text.

    A state stands for the longest end of the text that begins a sequence, which is also all that must be held. A character
    leads to a longer beginning, or else to the same from a shorter one, the fallback: the longest proper end of this one
    that begins a sequence.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallbacks = [_ROOT]
        # Of each state: a sequence that begins like this, and how much of it has been read.
        self._prefixes = [("", 0)]
        # Of each state: the longest sequence that ends here.
        self._matches: list[str | None] = [None]
        for sequence in sequences:
            self._add(sequence)
        self._set_fallbacks()
        self._first_characters = re.compile(f"[{re.escape(''.join(self._next[_ROOT]))}]")

    def get_prefix(self, state: int) -> str:
        """Return the beginning that a state stands for."""
        sequence, size = self._prefixes[state]
        return sequence[:size]

    def search(self, state: int, text: str) -> tuple[int, int, str | None]:
        """Read `text` up to the first match; return the new state, where reading ended, and the match."""
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
        """Shorter beginnings first, as the longer ones need theirs."""
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
