"""Convert images and documents to content parts, by the source of their data."""

import base64
from collections.abc import Callable

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.quoting import shorten

_PDF = "application/pdf"
# The Messages API's own list.
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# A common slip, which upstreams refuse.
_MEDIA_TYPE_ALIASES = {"image/jpg": "image/jpeg"}
_TEXT_TYPES = (
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
)

_NO_FILES = "a file source can't be used: this server keeps no files; send the data as base64"


def to_image_part(source: JsonObject) -> JsonObject:
    """Return the part for an image.

    Raises ApiError (400); Claude Code then replaces the image by a text.
    """
    if source["type"] == "url":
        return openai.image_url_part(source["url"])
    if source["type"] != "base64":
        raise invalid_request(_NO_FILES)
    media_type = _parse_media_type(source)
    if media_type not in _IMAGE_TYPES:
        raise invalid_request(
            f"Could not process image: media_type {shorten(source['media_type'])!r} is none of "
            f"{', '.join(_IMAGE_TYPES)}"
        )
    return openai.image_url_part(_build_data_url(media_type, source["data"]))


def to_document_parts(
    source: JsonObject, name: str, context: TranslationContext
) -> list[JsonObject]:
    """Return the parts for a document source of any type but `content`. Raises ApiError (400)."""
    return _CONVERTERS[source["type"]](source, name, context)


def _from_base64(source: JsonObject, name: str, context: TranslationContext) -> list[JsonObject]:
    media_type = _parse_media_type(source)
    if media_type == _PDF:
        return [_pdf_part(source["data"], name, context)]
    if media_type in _IMAGE_TYPES:
        return [to_image_part(source)]
    if media_type.startswith("text/") or media_type in _TEXT_TYPES:
        return [openai.text_part(_decode_text(source["data"]))]
    raise invalid_request(
        f"a document of media_type {shorten(source['media_type'])!r} can't be used: "
        "send a PDF or text"
    )


def _pdf_part(data: str, name: str, context: TranslationContext) -> JsonObject:
    if context.profile.takes_files:
        # OpenAI detects the type of a file by its name too.
        filename = name if name.lower().endswith(".pdf") else f"{name}.pdf"
        return openai.file_part(filename, _build_data_url(_PDF, data))
    pages = context.pdf_pages(data)
    texts = []
    for number, text in enumerate(pages, 1):
        texts.append(f"[page {number} of {len(pages)}]\n{text}".rstrip())
    return openai.text_part("\n\n".join(texts))


def _build_data_url(media_type: str, data: str) -> str:
    """Build a data URL without the line ends of MIME, which upstreams refuse."""
    return f"data:{media_type};base64,{''.join(data.split())}"


def _from_text(source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    return [openai.text_part(source["data"])]


def _from_url(_source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    """Raise ApiError (400): the gateway replaces URLs by their files before translation."""
    raise invalid_request("a document with a url source can't be passed on: send it as base64")


def _from_file(_source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    raise invalid_request(_NO_FILES)


def _parse_media_type(source: JsonObject) -> str:
    """Return the media type without parameters such as the charset."""
    media_type: str = source["media_type"].partition(";")[0].strip().lower()
    return _MEDIA_TYPE_ALIASES.get(media_type, media_type)


def _decode_text(data: str) -> str:
    try:
        # Without validation, a text that is not encoded would decode to other characters.
        raw = base64.b64decode("".join(data.split()), validate=True)
    except ValueError as error:
        raise invalid_request(f"a document's data is no base64: {error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Other texts are most often from Windows; a wrong character is better than no document.
        return raw.decode("cp1252", "replace")


_CONVERTERS: dict[str, Callable[[JsonObject, str, TranslationContext], list[JsonObject]]] = {
    "base64": _from_base64,
    "text": _from_text,
    "url": _from_url,
    "file": _from_file,
}
