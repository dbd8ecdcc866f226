"""Convert images and documents to content parts, depending on their source."""

import base64
from collections.abc import Callable

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.media_sources import detect_base64_image_type
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.quoting import shorten

_PDF = "application/pdf"
# The types that the Messages API accepts.
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# A common mistake of clients; upstreams refuse it.
_MEDIA_TYPE_ALIASES = {"image/jpg": "image/jpeg"}
_TEXT_TYPES = (
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
)

_NO_FILES = (
    "a file source is not supported, because this server does not store files: "
    "send the data as base64"
)


def to_image_part(source: JsonObject) -> JsonObject:
    """Return the content part for an image.

    Raises ApiError (400), on which Claude Code replaces the image by a text.
    """
    if source["type"] == "url":
        return openai.image_url_part(source["url"])
    if source["type"] != "base64":
        raise invalid_request(_NO_FILES)
    media_type = detect_base64_image_type(source["data"]) or _parse_media_type(source)
    if media_type not in _IMAGE_TYPES:
        raise invalid_request(
            f"Could not process image: media_type {shorten(source['media_type'])!r} is not one of "
            f"{', '.join(_IMAGE_TYPES)}"
        )
    return openai.image_url_part(_build_data_url(media_type, source["data"]))


def to_document_parts(
    source: JsonObject, name: str, context: TranslationContext
) -> list[JsonObject]:
    """Return the parts for a document source whose type is not `content`.

    Raises ApiError (400) for invalid or unsupported sources.
    """
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
        f"a document with media_type {shorten(source['media_type'])!r} is not supported: "
        "send a PDF or text"
    )


def _pdf_part(data: str, name: str, context: TranslationContext) -> JsonObject:
    if context.profile.takes_files:
        # OpenAI also uses the name to detect the type.
        filename = name if name.lower().endswith(".pdf") else f"{name}.pdf"
        return openai.file_part(filename, _build_data_url(_PDF, data))
    pages = context.pdf_pages(data)
    texts = []
    for number, text in enumerate(pages, 1):
        texts.append(f"[page {number} of {len(pages)}]\n{text}".rstrip())
    return openai.text_part("\n\n".join(texts))


def _build_data_url(media_type: str, data: str) -> str:
    """Build a data URL without MIME line breaks, which upstreams refuse."""
    return f"data:{media_type};base64,{''.join(data.split())}"


def _from_text(source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    return [openai.text_part(source["data"])]


def _from_url(_source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    """Raise ApiError (400): the gateway has replaced all URLs that it may download."""
    raise invalid_request("a document with a url source cannot be forwarded: send it as base64")


def _from_file(_source: JsonObject, _name: str, _context: TranslationContext) -> list[JsonObject]:
    raise invalid_request(_NO_FILES)


def _parse_media_type(source: JsonObject) -> str:
    """Return the media type without parameters such as the charset."""
    media_type: str = source["media_type"].partition(";")[0].strip().lower()
    return _MEDIA_TYPE_ALIASES.get(media_type, media_type)


def _decode_text(data: str) -> str:
    try:
        # Without validation, plain text would be decoded to other characters.
        raw = base64.b64decode("".join(data.split()), validate=True)
    except ValueError as error:
        raise invalid_request(f"the data of a document is not valid base64: {error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Most other texts come from Windows; a wrong character is better than a failed request.
        return raw.decode("cp1252", "replace")


_CONVERTERS: dict[str, Callable[[JsonObject, str, TranslationContext], list[JsonObject]]] = {
    "base64": _from_base64,
    "text": _from_text,
    "url": _from_url,
    "file": _from_file,
}
