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
