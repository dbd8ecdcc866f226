"""Cache the text of PDFs: a conversation sends its documents again with every turn."""

import hashlib
from collections import OrderedDict
from threading import Lock

from anthropic_proxy.translate.request.pdf import read_pages

_MAX_DOCUMENTS = 64
_MAX_CHARACTERS = 16 * 1024 * 1024


class PdfPageCache:
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
        self._documents: OrderedDict[bytes, list[str]] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def __call__(self, data: str) -> list[str]:
        """As `read_pages`."""
        pages = self.get(data)
        if pages is None:
            pages = read_pages(data)
            self.put(data, pages)
        return pages

    def get(self, data: str) -> list[str] | None:
        """Return the pages of a document that was read before; None when there are none."""
        key = _key(data)
        with self._lock:
            if key in self._documents:
                self._documents.move_to_end(key)
            return self._documents.get(key)

    def put(self, data: str, pages: list[str]) -> None:
        """Keep the pages of a document."""
        with self._lock:
            self._put(_key(data), pages)

    def _put(self, key: bytes, pages: list[str]) -> None:
        self._characters += sum(map(len, pages)) - sum(map(len, self._documents.pop(key, ())))
        self._documents[key] = pages
        while len(self._documents) > self._max_documents or self._characters > self._max_characters:
            _, evicted_pages = self._documents.popitem(last=False)
            self._characters -= sum(map(len, evicted_pages))


def _key(data: str) -> bytes:
    return hashlib.sha256(data.encode()).digest()
