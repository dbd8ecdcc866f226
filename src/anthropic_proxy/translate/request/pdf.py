"""Extract the text of PDFs for upstreams that do not accept files.

This is the only module that imports pypdf. A page takes milliseconds and a long document many
seconds, and a conversation repeats its documents with each turn, so the gateway caches the texts
(gateway/pdf_cache). A file of a few kilobytes can cause hours of work and use gigabytes of memory,
so the server extracts texts in a process with resource limits (gateway/pdf_process).
"""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from anthropic_proxy.errors import ApiError, invalid_request

# The limit of the Messages API.
MAX_PAGES = 600

# For all pages together. No model accepts more.
MAX_TEXT_CHARACTERS = 16 * 1024 * 1024


def invalid_pdf_error(reason: str) -> ApiError:
    """Return the error on which Claude Code replaces the document by a text and continues."""
    return invalid_request(f"The PDF specified was not valid: {reason}")


def read_pages(data: str) -> list[str]:
    """Return the text of each page of a base64-encoded PDF.

    Raises ApiError (400) if it cannot be parsed or has no text.
    """
    try:
        pages = _extract_pages(base64.b64decode(data))
    except ApiError:
        raise
    except Exception as error:  # for invalid files the library raises any exception
        raise invalid_pdf_error(f"it cannot be parsed ({type(error).__name__})") from error
    if not any(pages):
        raise invalid_pdf_error(
            "it contains no text (scanned pages?), and the upstream does not accept PDF files; "
            "send its pages as images"
        )
    return pages


def _extract_pages(raw: bytes) -> list[str]:
    # The import takes longer than that of all other modules, and most processes never need it.
    from pypdf import PdfReader

    reader = PdfReader(BytesIO(raw))
    if _is_encrypted(reader):
        raise invalid_pdf_error("it is encrypted; send it without a password")
    page_objects = _list_pages(reader)
    if not page_objects:
        raise invalid_pdf_error("it has no pages")
    if len(page_objects) > MAX_PAGES:
        raise invalid_pdf_error(
            f"it has {len(page_objects)} pages, more than the maximum of {MAX_PAGES}"
        )
    pages: list[str] = []
    # A document may contain the same page many times.
    text_by_object: dict[int, str] = {}
    characters = 0
    for page in page_objects:
        reference = page.indirect_reference
        text = text_by_object.get(reference.idnum) if reference is not None else None
        if text is None:
            # Invalid fonts give unpaired surrogates.
            text = page.extract_text().encode("utf-8", "replace").decode().strip()
            if reference is not None:
                text_by_object[reference.idnum] = text
        characters += len(text)
        if characters > MAX_TEXT_CHARACTERS:
            raise invalid_pdf_error(
                f"it has more than {MAX_TEXT_CHARACTERS} characters of text; "
                "send only the relevant pages"
            )
        pages.append(text)
    return pages


def _list_pages(reader: Any) -> Sequence[Any]:
    """Return the pages in the order of the page tree, or of the file if the tree is broken."""
    from pypdf.errors import PyPdfError

    try:
        pages: Sequence[Any] = reader.pages
        page_count = len(pages)
    except (PyPdfError, LookupError, TypeError, AttributeError):
        # The tree has a loop, or an object of a wrong type.
        page_count = 0
    return pages if page_count else _find_page_objects(reader)


def _find_page_objects(reader: Any) -> list[Any]:
    """Return all objects of the type Page, by their numbers."""
    from pypdf import PageObject
    from pypdf.generic import DictionaryObject

    references = {
        number: generation for generation, objects in reader.xref.items() for number in objects
    }
    references |= dict.fromkeys(reader.xref_objStm, 0)
    pages = []
    for number, generation in sorted(references.items()):
        page_object = _get_object(reader, number, generation)
        if isinstance(page_object, DictionaryObject) and page_object.get("/Type") == "/Page":
            page = PageObject(reader, page_object.indirect_reference)
            page.update(page_object)
            pages.append(page)
    return pages


def _get_object(reader: Any, number: int, generation: int) -> Any:
    """Return an object of a PDF, or None if it cannot be read."""
    from pypdf.errors import PyPdfError
    from pypdf.generic import IndirectObject

    try:
        return reader.get_object(IndirectObject(number, generation, reader))
    except (PyPdfError, ValueError, LookupError, TypeError):
        return None


def _is_encrypted(reader: Any) -> bool:
    """Return whether a PDF cannot be read without a password."""
    from pypdf import PasswordType
    from pypdf.errors import DependencyError

    try:
        # Many PDFs are encrypted with an empty password, for example to forbid printing.
        return reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED
    except DependencyError:  # the cipher needs a library that is not installed
        return True
