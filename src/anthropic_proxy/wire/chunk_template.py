"""Chunks that differ from the one before in nothing but their text, read without being parsed.

A server writes the pieces of a text into chunks that are the same but for one string. If P"s"Q is JSON, and "t" is a JSON
string, then P"t"Q is the same JSON with t in the place of s. So a chunk that was parsed shows what stands around its
text, and of those like it the text alone is parsed: all that came with one read at once.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from anthropic_proxy.wire.json_codec import loads
from anthropic_proxy.wire.sse import DATA

_KEY = b'"content":'
_TEXT = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*+")')

# Events that are read at once after a failure.
_FEWEST_AT_ONCE = 16

# Some servers write something new into each chunk (a time, padding): then there is nothing to be learned.
_MOST_IN_VAIN = 16


class Repeats:
    """What stands around the text in the chunks of one stream."""

    def __init__(self) -> None:
        self._before = self._after = b""
        self._in_vain = 0
        self._most_at_once: int | None = None

    @property
    def learns(self) -> bool:
        """Whether it is worth while to go on with `learn`."""
        return self._in_vain < _MOST_IN_VAIN

    def learn(self, payload: bytes, text: str) -> None:
        """payload: of an event. text: that of its chunk, if it says nothing else."""
        if not text:
            return
        self._in_vain += 1
        found = _TEXT.search(payload)
        # Where the key is there once, it is the one with the text.
        if found and payload.count(_KEY) == 1 and loads(found[1]) == text:
            self._before, self._after = (
                DATA + payload[: found.start(1) + 1],
                payload[found.end(1) - 1 :],
            )

    def texts(self, events: Iterable[bytes]) -> list[str]:
        """Return the texts of the first of some events, as many as are of the known form.

        A string that can't be parsed spoils the work on all strings read with it. So after a failure few are read at
        once, and more with each text found: the work stays in proportion to the texts.
        """
        strings = self._strings(islice(events, self._most_at_once))
        if not strings:
            return []
        self._in_vain = 0
        texts = _parsed(strings)
        if len(texts) < len(strings):
            self._most_at_once = _FEWEST_AT_ONCE
        elif self._most_at_once is not None:
            self._most_at_once += len(texts)
        return texts

    def _strings(self, events: Iterable[bytes]) -> list[bytes]:
        before, after = self._before, self._after
        start, end, least = len(before), -len(after), len(before) + len(after)
        strings: list[bytes] = []
        for event in events if before else ():
            if not (event.startswith(before) and event.endswith(after) and len(event) >= least):
                break
            strings.append(event[start:end])
        return strings


def _parsed(strings: list[bytes]) -> list[str]:
    """What stands between the quotes of JSON strings, parsed; up to the first that can't stand there."""
    joined = b'["%b"]' % b'","'.join(strings)
    try:
        texts: list[str] = [] if b"\\" in joined else loads(joined)
    except ValueError:
        texts = []
    # Where no quote is escaped two of them make a string: had one string more of them, there would be more strings.
    return texts if len(texts) == len(strings) else list(_parsed_one_by_one(strings))


def _parsed_one_by_one(strings: list[bytes]) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        for string in strings:
            yield loads(b'"%b"' % string)
