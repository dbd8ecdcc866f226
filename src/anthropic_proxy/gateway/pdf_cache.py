"""Cache the text of PDFs, because each turn of a conversation contains its documents again."""

import hashlib
from threading import Lock

from cachetools import LRUCache

_MAX_DOCUMENTS = 64
_MAX_CHARACTERS = 16 * 1024 * 1024


class PdfPageCache:
    """The pages of the most recently used documents. Thread-safe.

    The number of documents and the total number of characters are limited.
    """

    def __init__(
        self,
        *,
        max_documents: int = _MAX_DOCUMENTS,
        max_characters: int = _MAX_CHARACTERS,
    ) -> None:
        self._max_documents = max_documents
        self._documents: LRUCache[bytes, list[str]] = LRUCache(
            max_characters, getsizeof=_count_characters
        )
        self._lock = Lock()

    def get(self, data: str) -> list[str] | None:
        """Return the cached pages of a document, or None. data: the document in base64."""
        with self._lock:
            return self._documents.get(_key(data))

    def put(self, data: str, pages: list[str]) -> None:
        """Cache the pages of a document, unless they alone exceed the character limit.

        data: the document in base64.
        """
        if _count_characters(pages) > self._documents.maxsize:
            return
        with self._lock:
            self._documents[_key(data)] = pages
            if len(self._documents) > self._max_documents:
                self._documents.popitem()


def _key(data: str) -> bytes:
    return hashlib.sha256(data.encode()).digest()


def _count_characters(pages: list[str]) -> int:
    return sum(map(len, pages))
