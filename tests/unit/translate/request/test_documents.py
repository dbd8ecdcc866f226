"""Media types of documents and images, and the forms of their data."""

import base64
from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.request.documents import to_document_parts, to_image_part

DATA = base64.b64encode(b"x").decode()
# No converter of these sources reads the context.
CONTEXT: Any = None


def _base64(media_type: str, data: str = DATA) -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": data}


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/csv; charset=utf-8",
        "TEXT/HTML",
        "application/json",
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/javascript",
    ],
)
def test_text_types(media_type: str) -> None:
    assert to_document_parts(_base64(media_type), "a", CONTEXT) == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif", "image/webp"])
def test_image_types(media_type: str) -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{DATA}"}}
    assert to_document_parts(_base64(media_type), "a", CONTEXT) == [part]
    assert to_image_part(_base64(media_type)) == part


def test_the_common_slip_for_jpeg() -> None:
    assert to_image_part(_base64("image/jpg")) == to_image_part(_base64("image/jpeg"))


_JPEG, _PNG = b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_WEBP = b"RIFF\0\1\0\0WEBPVP8 "


@pytest.mark.parametrize(
    ("label", "data", "sent"),
    [
        ("image/png", _JPEG, "image/jpeg"),
        ("image/jpeg", _PNG, "image/png"),
        ("image/jpeg", b"GIF89a", "image/gif"),
        ("image/png", _WEBP, "image/webp"),
        ("application/octet-stream", _JPEG, "image/jpeg"),
        ("image/png", _PNG, "image/png"),
        # Unknown bytes keep their label: the upstream decides.
        ("image/png", b"RIFF\0\1\0\0WAVEfmt ", "image/png"),
        ("image/png", b"\xff\xd8", "image/png"),
        ("image/png", b"", "image/png"),
    ],
)
def test_the_bytes_of_an_image_show_its_type(label: str, data: bytes, sent: str) -> None:
    """Claude Code sends screenshots with wrong labels, which upstreams refuse."""
    encoded = base64.b64encode(data).decode()
    url = f"data:{sent};base64,{encoded}"
    for lines in (encoded, "\r\n".join(encoded)):
        part = to_image_part(_base64(label, lines))
        assert part == {"type": "image_url", "image_url": {"url": url}}


def test_data_that_is_no_base64_keeps_its_label() -> None:
    part = to_image_part(_base64("image/png", "!" * 16))
    assert part["image_url"]["url"].startswith("data:image/png;")


@pytest.mark.parametrize("media_type", ["image/bmp", "application/zip", "video/mp4", "textual/x"])
def test_other_types_are_refused(media_type: str) -> None:
    for convert in (to_image_part, lambda source: to_document_parts(source, "a", CONTEXT)):
        with pytest.raises(ApiError) as raised:
            convert(_base64(media_type))
        assert raised.value.status == 400
        assert media_type in raised.value.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (base64.encodebytes(b"line" * 40).decode(), "line" * 40),
        (base64.b64encode("é".encode()).decode(), "é"),
        (base64.b64encode("\ufeffé".encode()).decode(), "é"),
        (base64.b64encode(b"\xe9\x81").decode(), "é\ufffd"),
    ],
    ids=["in lines", "UTF-8", "with a byte order mark", "Windows"],
)
def test_encoded_text(data: str, text: str) -> None:
    assert to_document_parts(_base64("text/plain", data), "a", CONTEXT) == [
        {"type": "text", "text": text}
    ]


@pytest.mark.parametrize(
    "source",
    [
        _base64("text/plain", "not encoded!"),
        {"type": "url", "url": "https://example.com/a.pdf"},
        {"type": "file", "file_id": "file_1"},
    ],
    ids=["no base64", "url", "file"],
)
def test_sources_that_cannot_be_used(source: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as raised:
        to_document_parts(source, "a", CONTEXT)
    assert raised.value.status == 400
