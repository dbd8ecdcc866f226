"""Images by their size, PDF files by their pages."""

import base64
import struct

import pytest

from anthropic_proxy.translate.tokens.media import estimate_image, estimate_pdf


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sII", 13, b"IHDR", width, height)
        + b"\x08\x02\0\0\0"
        + b"\0" * 100
    )


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 100


def webp(width: int, height: int) -> bytes:
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF\0\1\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + sizes + b"\0" * 100


def jpeg(width: int, height: int, metadata: int = 20) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", metadata + 2) + b"\0" * metadata
    return (
        b"\xff\xd8"
        + exif
        + b"\xff\xc0"
        + struct.pack(">HBHH", 17, 8, height, width)
        + b"\3"
        + b"\0" * 100
    )


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("form", [png, gif, webp, jpeg])
@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (200, 200, 53),
        (1000, 750, 1000),
        (750, 1000, 1000),
        (4000, 3000, 1533),
        (3136, 750, 784),
        (1, 1, 1),
    ],
)
def test_image(form: object, width: int, height: int, tokens: int) -> None:
    assert callable(form)
    assert estimate_image(url(form(width, height))) == tokens


def test_a_size_after_much_metadata() -> None:
    assert estimate_image(url(jpeg(1000, 750, metadata=65_000) + b"\0" * 500_000)) == 1000


def test_a_size_before_a_broken_segment() -> None:
    assert estimate_image(url(jpeg(1000, 750) + b"\xff\xdb\0\0")) == 1000


@pytest.mark.parametrize(
    ("url_head", "size_ends", "tokens"),
    [(100, 120_000, 1000), (101, 120_000, 1600), (23, 120_001, 1600)],
)
def test_a_size_at_the_end_of_what_is_read(url_head: int, size_ends: int, tokens: int) -> None:
    exif = b"\xff\xe1" + struct.pack(">H", 60_002) + b"\0" * 60_000
    image = jpeg(1000, 750, metadata=size_ends - len(exif) - 16)
    start = f"data:image/png;{'a' * (url_head - 23)};base64,"
    data = image[:2] + exif + image[2:]
    assert estimate_image(start + base64.b64encode(data).decode()) == tokens


@pytest.mark.parametrize(
    "url_of_image",
    [
        "https://example.com/a.png",
        "data:image/png;base64,",
        "data:image/png;base64,A",
        "data:image/png;base64,\u00e4\u00e4\u00e4\u00e4",
        "data:image/svg+xml,<svg/>",
        url(png(200, 200)[:18]),
        url(png(0, 0)),
        url(jpeg(200, 200)[:20]),
        url(b"\xff\xd8" + b"\0" * 50_000),
        url(b"<svg width='10' height='10'/>"),
        url(b"BM" + b"\0" * 100),
    ],
)
def test_an_image_of_unknown_size(url_of_image: str) -> None:
    assert estimate_image(url_of_image) == 1600


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (
            b"%PDF-1.4\n"
            + b"<< /Type /Page /Parent 1 0 R >>" * 3
            + b"<< /Type /Pages >>"
            + b"<</Type/Page>>",
            4,
        ),
        (b"%PDF-1.7\n" + b"\0" * 100_000, 3),
        (b"", 1),
    ],
)
def test_pdf(data: bytes, pages: int) -> None:
    assert estimate_pdf(url(data, "application/pdf")) == pages * 2000
