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
from anthropic_proxy.wire.sse import DATA_PREFIX

_CONTENT_KEY = b'"content":'
_CONTENT_MEMBER = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*+")')

# Events that are read at once after a failure.
_MIN_BATCH = 16

# Some servers write something new into each chunk (a time, padding): then there is nothing to be learned.
_MAX_MISSES = 16


class ChunkTemplate:
    """What stands around the text in the chunks of one stream."""

    def __init__(self) -> None:
        self._prefix = self._suffix = b""
        self._misses = 0
        self._batch_limit: int | None = None

    @property
    def is_learning(self) -> bool:
        """Whether it is worth while to go on with `learn`."""
        return self._misses < _MAX_MISSES

    def learn(self, payload: bytes, text: str) -> None:
        """payload: of an event. text: that of its chunk, if it says nothing else."""
        if not text:
            return
        self._misses += 1
        match = _CONTENT_MEMBER.search(payload)
        # Where the key is there once, it is the one with the text.
        if match and payload.count(_CONTENT_KEY) == 1 and loads(match[1]) == text:
            self._prefix, self._suffix = (
                DATA_PREFIX + payload[: match.start(1) + 1],
                payload[match.end(1) - 1 :],
            )

    def parse_texts(self, events: Iterable[bytes]) -> list[str]:
        """Return the texts of the first of some events, as many as are of the known form.

        A string that can't be parsed spoils the work on all strings read with it. So after a failure few are read at
        once, and more with each text found: the work stays in proportion to the texts.
        """
        strings = self._match_strings(islice(events, self._batch_limit))
        if not strings:
            return []
        self._misses = 0
        texts = _parse_strings(strings)
        if len(texts) < len(strings):
            self._batch_limit = _MIN_BATCH
        elif self._batch_limit is not None:
            self._batch_limit += len(texts)
        return texts

    def _match_strings(self, events: Iterable[bytes]) -> list[bytes]:
        prefix, suffix = self._prefix, self._suffix
        start, end, min_size = len(prefix), -len(suffix), len(prefix) + len(suffix)
        strings: list[bytes] = []
        for event in events if prefix else ():
            if not (event.startswith(prefix) and event.endswith(suffix) and len(event) >= min_size):
                break
            strings.append(event[start:end])
        return strings


def _parse_strings(strings: list[bytes]) -> list[str]:
    """What stands between the quotes of JSON strings, parsed; up to the first that can't stand there."""
    joined = b'["%b"]' % b'","'.join(strings)
    try:
        texts: list[str] = [] if b"\\" in joined else loads(joined)
    except ValueError:
        texts = []
    # Where no quote is escaped two of them make a string: had one string more of them, there would be more strings.
    return texts if len(texts) == len(strings) else list(_parse_one_by_one(strings))


def _parse_one_by_one(strings: list[bytes]) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        for string in strings:
            yield loads(b'"%b"' % string)
