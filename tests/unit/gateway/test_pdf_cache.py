"""The cache of PDF pages: its bounds, and which document is dropped first."""

import pytest

from anthropic_proxy.gateway.pdf_cache import PdfPageCache


@pytest.mark.parametrize("bounds", [{"max_documents": 2}, {"max_characters": 9}])
def test_the_least_recently_used_is_dropped(bounds: dict[str, int]) -> None:
    cache = PdfPageCache(**bounds)
    cache.put("one", ["One", "."])
    cache.put("two", ["Two."])
    assert cache.get("one") == ["One", "."]
    cache.put("six", ["Six."])
    assert [cache.get(data) for data in ("one", "two", "six")] == [["One", "."], None, ["Six."]]


def test_a_document_larger_than_the_limit_is_not_cached() -> None:
    cache = PdfPageCache(max_characters=3)
    cache.put("small", ["abc"])
    cache.put("large", ["abcd"])
    assert cache.get("large") is None
    assert cache.get("small") == ["abc"]


def test_documents_without_text_are_cached() -> None:
    cache = PdfPageCache(max_characters=0)
    cache.put("scan", ["", ""])
    assert cache.get("scan") == ["", ""]
