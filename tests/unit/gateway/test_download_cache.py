"""Files that are kept: for how long, and how many."""

from anthropic_proxy.gateway.download_cache import DownloadCache, DownloadedFile
from anthropic_proxy.translate.request.media_sources import RemoteSource


def remote(name: str) -> RemoteSource:
    return RemoteSource("image", f"https://a.example/{name}")


def file(data: str) -> DownloadedFile:
    return DownloadedFile({"type": "base64", "media_type": "image/png", "data": data}, len(data))


def test_it_is_there_for_its_time() -> None:
    kept = DownloadCache(ttl_seconds=10)
    assert kept.get(remote("a"), 0) is None
    kept.put(remote("a"), file("x"), 5)
    assert kept.get(remote("a"), 14) == file("x")
    assert kept.get(RemoteSource("document", remote("a").url), 14) is None
    assert kept.get(remote("a"), 15) is None
    assert kept.get(remote("a"), 14) is None, "what is too old is gone"


def test_the_least_recently_used_goes_first() -> None:
    kept = DownloadCache(max_bytes=3)
    for name in "abc":
        kept.put(remote(name), file(name), 0)
    assert kept.get(remote("a"), 0) == file("a")
    kept.put(remote("c"), file("cc"), 0)
    assert [kept.get(remote(name), 0) is not None for name in "abc"] == [True, False, True]


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    kept = DownloadCache(max_bytes=3)
    kept.put(remote("a"), file("xxxx"), 0)
    assert kept.get(remote("a"), 0) is None
    kept.put(remote("a"), file("xxx"), 0)
    assert kept.get(remote("a"), 0) == file("xxx")
