"""Parse only the text of stream chunks that are otherwise identical to an earlier chunk.

A server sends the pieces of a text in chunks that differ in one string. If P"s"Q is JSON and "t" is a JSON string, then
P"t"Q is the same JSON with t in the place of s. `ChunkTemplate` takes P and Q from a chunk that was parsed, and then
parses only the strings of the chunks that match, all strings of one read at once.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from anthropic_proxy.wire.json_codec import loads
from anthropic_proxy.wire.sse import DATA_PREFIX

_CONTENT_KEY = b'"content":'
_CONTENT_MEMBER = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*+")')

# Events that are parsed at once after a failure.
_MIN_BATCH = 16

# Some servers put a new value into each chunk (a time, padding), so that no template ever matches.
_MAX_MISSES = 16


class ChunkTemplate:
    """The bytes around the text in the chunks of one stream."""

    def __init__(self) -> None:
        self._prefix = self._suffix = b""
        self._misses = 0
        self._batch_limit: int | None = None

    @property
    def is_learning(self) -> bool:
        """Whether more calls of `learn` are worth their cost."""
        return self._misses < _MAX_MISSES

    def learn(self, payload: bytes, text: str) -> None:
        """Take the template from an event's data (`payload`) and the text of its chunk, empty if the chunk holds more."""
        if not text:
            return
        self._misses += 1
        match = _CONTENT_MEMBER.search(payload)
        # A key that occurs once is the key of the text.
        if match and payload.count(_CONTENT_KEY) == 1 and loads(match[1]) == text:
            self._prefix, self._suffix = (
                DATA_PREFIX + payload[: match.start(1) + 1],
                payload[match.end(1) - 1 :],
            )

    def parse_texts(self, events: Iterable[bytes]) -> list[str]:
        """Return the texts of the leading events that match the template.

        A string that is no JSON wastes the work on all strings parsed with it. So the batch is small after a failure and
        grows with each text: the work stays in proportion to the texts.
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
    """Parse the contents of JSON strings, up to the first that is invalid."""
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
