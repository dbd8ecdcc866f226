"""Cache the text of PDFs: a conversation sends its documents again with every turn."""

import hashlib
from collections import OrderedDict
from threading import Lock

from anthropic_proxy.translate.request.pdf import read_pages

_MAX_DOCUMENTS = 64
_MAX_CHARACTERS = 16 * 1024 * 1024


class PdfPages:
    """`read_pages` with a memory, bounded by documents and by characters; the least recently used go first.

    May be called from several threads.
    """

    def __init__(
        self,
        *,
        max_documents: int = _MAX_DOCUMENTS,
        max_characters: int = _MAX_CHARACTERS,
    ) -> None:
        self._max_documents = max_documents
        self._max_characters = max_characters
        self._known: OrderedDict[bytes, list[str]] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def __call__(self, data: str) -> list[str]:
        """As `read_pages`."""
        pages = self.known(data)
        if pages is None:
            pages = read_pages(data)
            self.remember(data, pages)
        return pages

    def known(self, data: str) -> list[str] | None:
        """Return the pages of a document that was read before; None when there are none."""
        key = _key(data)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def remember(self, data: str, pages: list[str]) -> None:
        """Keep the pages of a document."""
        with self._lock:
            self._remember(_key(data), pages)

    def _remember(self, key: bytes, pages: list[str]) -> None:
        self._characters += sum(map(len, pages)) - sum(map(len, self._known.pop(key, ())))
        self._known[key] = pages
        while len(self._known) > self._max_documents or self._characters > self._max_characters:
            _, forgotten = self._known.popitem(last=False)
            self._characters -= sum(map(len, forgotten))


def _key(data: str) -> bytes:
    return hashlib.sha256(data.encode()).digest()
