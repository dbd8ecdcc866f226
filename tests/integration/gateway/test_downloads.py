"""Files downloaded by their URLs from real servers: allowed hosts, types and sizes."""

import asyncio
import base64
import copy
import dataclasses
from typing import Any

import pytest

from anthropic_proxy.config.download_policy import DownloadPolicy
from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway import downloads as downloads_module
from anthropic_proxy.gateway.downloads import MAX_FILES, FileDownloader, is_public_address
from anthropic_proxy.providers.profiles import GENERIC
from tests.support.scripted_upstream import RESET, Pause, Script, ScriptedUpstream, answers

Json = dict[str, Any]

PNG = b"\x89PNG\r\n\x1a\nrest"
PDF = b"%PDF-1.4 rest"
TRY_AGAIN = "Unable to download the file. Please verify the URL and try again."


@pytest.fixture
def files(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> ScriptedUpstream:
    """A server of files, whose address alone counts as public."""
    monkeypatch.setattr(downloads_module, "is_public_address", lambda host: host == "127.0.0.1")
    return upstream


def asking(*blocks: Json) -> Json:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def block(kind: str, url: str) -> Json:
    return {"type": kind, "source": {"type": "url", "url": url}}


def inlined(request: Json, **options: Any) -> list[Json]:
    """The sources of a request's blocks afterwards."""

    async def main() -> Json:
        downloads = FileDownloader(**options)
        try:
            return await downloads.inline_files(request, GENERIC)
        finally:
            await downloads.aclose()

    return [each["source"] for each in asyncio.run(main())["messages"][0]["content"]]


def failure(url: str, kind: str = "image", **options: Any) -> str:
    with pytest.raises(ApiError) as caught:
        inlined(asking(block(kind, url)), **options)
    assert caught.value.status == 400
    assert caught.value.message.startswith(TRY_AGAIN)
    return caught.value.message.removeprefix(TRY_AGAIN).strip()


def source(media_type: str, data: bytes) -> Json:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("kind", "media_type", "data"),
    [
        ("image", "image/png", PNG),
        ("image", "image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image", "image/gif", b"GIF89a"),
        ("image", "image/webp", b"RIFF\x01\x02\x03\x04WEBPVP8"),
        ("document", "application/pdf", PDF),
    ],
)
def test_kinds(files: ScriptedUpstream, kind: str, media_type: str, data: bytes) -> None:
    files.then(
        answers(data, headers={"content-type": "application/octet-stream", "set-cookie": "a=b"})
    )
    assert inlined(asking(block(kind, files.url + "/f?x=1"))) == [source(media_type, data)]
    sent = files.request()
    assert (sent.method, sent.path) == ("GET", "/f?x=1")
    assert not sent.headers.keys() & {"cookie", "authorization"}


def test_not_compressed_in_any_case(files: ScriptedUpstream) -> None:
    files.then(answers(PNG, headers={"content-encoding": "Identity"}))
    assert inlined(asking(block("image", files.url))) == [source("image/png", PNG)]


def test_each_is_fetched_once_and_all_at_once(files: ScriptedUpstream) -> None:
    pause = Pause()
    held = Script(answers(PNG).head, [pause, PNG])
    files.then(held, held)
    request = asking(*[block("image", f"{files.url}/{name}") for name in "aba"])
    before = copy.deepcopy(request)

    async def main() -> Json:
        downloads = FileDownloader()
        working = asyncio.create_task(downloads.inline_files(request, GENERIC))
        for _ in range(2):
            await asyncio.to_thread(files.request)
        pause.go.set()
        made = await working
        await downloads.aclose()
        return made

    made = asyncio.run(main())
    assert [each["source"] for each in made["messages"][0]["content"]] == [
        source("image/png", PNG)
    ] * 3
    assert sorted(each.path for each in files.requests) == ["/a", "/b"]
    assert request == before


def test_nothing_to_fetch() -> None:
    request = asking({"type": "text", "text": "a"})
    assert asyncio.run(FileDownloader().inline_files(request, GENERIC)) is request


def test_redirects(files: ScriptedUpstream) -> None:
    steps = [
        answers(b"", 302, {"location": "/b?c"}),
        answers(b"", 308, {"location": f"{files.url}/d"}),
        answers(PNG),
    ]
    files.then(*steps)
    assert inlined(asking(block("image", files.url + "/a"))) == [source("image/png", PNG)]
    assert [each.path for each in files.requests] == ["/a", "/b?c", "/d"]


def test_too_many_redirects(files: ScriptedUpstream) -> None:
    files.then(*[answers(b"", 302, {"location": "/"})] * 4)
    assert failure(files.url).endswith("more than 3 redirects)")


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        (answers(b"no", 404), "image", "the server returned status 404"),
        (answers(b"", 302), "image", "the server returned status 302"),
        (answers(PDF), "image", "it is not a JPEG, PNG, GIF or WebP image"),
        (answers(PNG), "document", "it is not a PDF"),
        (
            answers(b"<html>", headers={"content-type": "image/png"}),
            "image",
            "it is not a JPEG, PNG, GIF or WebP image",
        ),
        (
            answers(PNG, headers={"content-encoding": "gzip"}),
            "image",
            "the server compressed it without a request to do so",
        ),
        (
            answers(b"", 302, {"location": "file:///etc/passwd"}),
            "image",
            "only http and https URLs are fetched",
        ),
        (
            answers(b"", 302, {"location": "http://127.0.0.2/"}),
            "image",
            "its host has no public address",
        ),
        (
            answers(b"", 302, {"location": "http://[::1]/"}),
            "image",
            "its host has no public address",
        ),
        (Script(None, [RESET]), "image", "the connection to its host failed"),
        (
            Script(None, [b"no HTTP\r\n\r\n"]),
            "image",
            "its URL is invalid, or its host does not use HTTP",
        ),
        (Script(answers(PNG).head, [PNG[:4]]), "image", "the connection to its host failed"),
    ],
    ids=str,
)
def test_failures(files: ScriptedUpstream, script: Script, kind: str, reason: str) -> None:
    files.then(script)
    assert failure(files.url.replace("//", "//user:secret@") + "/path?secret", kind).startswith(
        f"({files.url.removeprefix('http://')}: {reason}"
    )


def test_too_large_together(files: ScriptedUpstream) -> None:
    files.then(answers(PNG), answers(PNG))
    assert (
        len(
            inlined(
                asking(block("image", files.url), block("image", files.url + "/b")),
                max_bytes=2 * len(PNG),
            )
        )
        == 2
    )
    files.then(answers(PNG), answers(PNG))
    with pytest.raises(ApiError, match="the files of a request must not exceed 32 MB in total"):
        inlined(
            asking(block("image", files.url), block("image", files.url + "/b")),
            max_bytes=2 * len(PNG) - 1,
        )


def test_too_large_together_as_often_as_named(files: ScriptedUpstream) -> None:
    often = [block("image", files.url)] * 1000
    files.then(answers(PNG))
    assert len(inlined(asking(*often), max_bytes=1000 * len(PNG) + 1000)) == 1000
    files.then(answers(PNG))
    with pytest.raises(
        ApiError,
        match="files that are referenced by URL must not exceed 0 MB in total; each",
    ):
        inlined(asking(*often), max_bytes=500 * len(PNG))


def test_too_many() -> None:
    blocks = [block("image", f"http://127.0.0.1/{number}") for number in range(MAX_FILES + 1)]
    with pytest.raises(
        ApiError,
        match=f"{MAX_FILES + 1} files; the maximum is {MAX_FILES}",
    ):
        inlined(asking(*blocks))


@pytest.mark.parametrize("end", ["?secret", "#secret", "/secret", "\\secret", ""])
def test_what_may_be_secret_in_an_address_is_not_shown(end: str) -> None:
    assert "secret" not in failure(f"http://user:secret@127.0.0.1{end}")


def test_too_slow(files: ScriptedUpstream) -> None:
    pause = Pause()
    files.then(Script(answers(PNG).head, [PNG[:4], pause]))
    assert failure(files.url, seconds=0.2).endswith("not received within 0.2 s)")
    pause.go.set()


@pytest.mark.parametrize(
    "url", ["ftp://example.com/a", "file:///etc/passwd", "", "a", "//example.com", "data:image/x,"]
)
def test_not_http(url: str) -> None:
    assert "only http and https URLs are fetched" in failure(url, "document")


@pytest.mark.parametrize(
    "url", ["http://", "http://[", "http://no-such-host.invalid/", "http://a b/", "http://x:99999/"]
)
def test_no_address(url: str) -> None:
    failure(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104
        "[::]",
    ],
)
def test_no_way_around(upstream: ScriptedUpstream, host: str) -> None:
    """However it is written, this machine is not a public host."""
    upstream.then(answers(PNG))
    failure(f"http://{host}:{upstream.port}/")
    assert upstream.requests == []


def test_all_hosts(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(PNG))
    assert inlined(asking(block("image", upstream.url)), policy=DownloadPolicy("all")) == [
        source("image/png", PNG)
    ]


@pytest.mark.parametrize("fetched", ["public", "all"])
def test_listed_hosts(upstream: ScriptedUpstream, fetched: Any) -> None:
    """They may be private; others are not fetched, also where a listed one sends us there."""
    policy = DownloadPolicy(fetched, ("127.0.0.1",))
    upstream.then(
        answers(PNG), answers(b"", 302, {"location": f"http://localhost:{upstream.port}/"})
    )
    assert inlined(asking(block("image", upstream.url)), policy=policy) == [
        source("image/png", PNG)
    ]
    refused = "its host is not in the proxy's DOWNLOAD_ALLOWED_HOSTS"
    assert refused in failure(upstream.url, policy=policy)
    for url in (
        f"http://localhost:{upstream.port}",
        f"http://127.1:{upstream.port}",
        f"http://127.0.0.1@[::1]:{upstream.port}",
    ):
        assert refused in failure(url, policy=policy)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "url",
    ["{here}#@a.invalid/", "{here}\\@a.invalid/", "http://a.invalid@{host}/", "{here}/@a.invalid"],
)
def test_a_host_is_read_as_the_request_is_sent(upstream: ScriptedUpstream, url: str) -> None:
    """Parsers of addresses differ; the one that connects is asked."""
    address = url.format(here=upstream.url, host=upstream.url.removeprefix("http://"))
    failure(address, policy=DownloadPolicy("public", ("a.invalid",)))
    assert upstream.requests == []


def test_no_hosts(upstream: ScriptedUpstream) -> None:
    policy = DownloadPolicy("off", ("127.0.0.1",))
    assert "does not fetch files (DOWNLOADS=off); send it in base64" in failure(
        upstream.url, policy=policy
    )
    assert upstream.requests == []


def test_addresses_are_passed_on_to_who_fetches_them() -> None:
    async def main(request: Json) -> Json:
        return await FileDownloader(DownloadPolicy("off")).inline_files(
            request, dataclasses.replace(GENERIC, fetches_image_urls=True)
        )

    request = asking(block("image", "https://a.example/b"))
    assert asyncio.run(main(request)) is request


def test_the_next_turn(files: ScriptedUpstream) -> None:
    """It brings the address again, and the file is still there, unless its server forbids that."""
    request = asking(block("image", files.url + "/a"), block("image", files.url + "/b"))
    files.then(
        answers(PNG), answers(PNG, headers={"cache-control": "private, no-store"}), answers(PNG)
    )

    async def main() -> list[Json]:
        downloads = FileDownloader()
        try:
            # One after the other, for the scripts' sake.
            for part in request["messages"][0]["content"]:
                await downloads.inline_files(asking(part), GENERIC)
            return [await downloads.inline_files(request, GENERIC)]
        finally:
            await downloads.aclose()

    (made,) = asyncio.run(main())
    assert [each["source"] for each in made["messages"][0]["content"]] == [
        source("image/png", PNG)
    ] * 2
    assert [each.path for each in files.requests] == ["/a", "/b", "/b"]


def test_cached_files_expire(files: ScriptedUpstream) -> None:
    files.then(answers(PNG), answers(PNG))
    now = 0.0

    async def main() -> None:
        nonlocal now
        downloads = FileDownloader(clock=lambda: now)
        try:
            for now in (5.0, 604.0, 605.0):  # noqa: B007 - the clock reads it
                await downloads.inline_files(asking(block("image", files.url)), GENERIC)
        finally:
            await downloads.aclose()

    asyncio.run(main())
    assert len(files.requests) == 2


def test_the_least_recently_used_file_is_evicted(
    files: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache has room for two of the three files."""
    monkeypatch.setattr(downloads_module, "_MAX_CACHE_SIZE", 3 * len(base64.b64encode(PNG)) - 1)
    files.then(*[answers(PNG)] * 4)

    async def main() -> None:
        downloads = FileDownloader()
        try:
            for path in ("/a", "/b", "/a", "/c", "/a", "/b"):
                await downloads.inline_files(asking(block("image", files.url + path)), GENERIC)
        finally:
            await downloads.aclose()

    asyncio.run(main())
    assert [request.path for request in files.requests] == ["/a", "/b", "/c", "/b"]


def test_a_kept_file_counts_like_any_other(files: ScriptedUpstream) -> None:
    files.then(answers(PNG), answers(PNG))

    async def main() -> None:
        downloads = FileDownloader(max_bytes=2 * len(PNG) - 1)
        try:
            await downloads.inline_files(asking(block("image", files.url)), GENERIC)
            await downloads.inline_files(
                asking(block("image", files.url), block("image", files.url + "/b")), GENERIC
            )
        finally:
            await downloads.aclose()

    with pytest.raises(ApiError, match="the files of a request must not exceed 32 MB in total"):
        asyncio.run(main())


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public(host: str) -> None:
    assert is_public_address(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ),
        *("2002:a00:1::1", "127.1", "name"),
        *(
            "fec0::1",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "64:ff9b:1::7f00:1",
            "4000::1",
            "5f00::1",
            "3fff::1",
            "2001:0:1::1",
        ),
        *("192.0.0.192", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::c000:c0", "198.18.0.1"),
    ],
)
def test_not_public(host: str) -> None:
    assert not is_public_address(host)
