"""Extract the text of PDFs for upstreams that accept no files: the only pypdf import.

Reading a page takes milliseconds, a long document many seconds, and a conversation sends its
documents again with every turn: the gateway caches the texts (gateway/pdf_cache). A file of some
kilobytes can cause hours of work and use gigabytes of memory: the server reads in a process with
its own limits (gateway/pdf_process).
"""

import base64
from io import BytesIO
from typing import Any

from anthropic_proxy.errors import ApiError, invalid_request

# The Messages API's own limit.
MAX_PAGES = 600

# Of all pages. No model accepts so much.
MAX_TEXT_CHARACTERS = 16 * 1024 * 1024


def invalid_pdf_error(reason: str) -> ApiError:
    """Return the error that makes Claude Code replace the document by a text and continue."""
    return invalid_request(f"The PDF specified was not valid: {reason}")


def read_pages(data: str) -> list[str]:
    """Return the text of each page of a PDF in base64.

    Raises ApiError (400) when it can't be read, or has no text.
    """
    try:
        pages = _extract_pages(base64.b64decode(data))
    except ApiError:
        raise
    except Exception as error:  # a broken file makes the library raise anything
        raise invalid_pdf_error(f"it can't be read ({type(error).__name__})") from error
    if not any(pages):
        raise invalid_pdf_error(
            "it holds no text (scanned pages?), and the upstream takes no PDF files; "
            "send its pages as images"
        )
    return pages


def _extract_pages(raw: bytes) -> list[str]:
    # Loading the library takes longer than starting the rest; most processes never see a PDF.
    from pypdf import PdfReader

    reader = PdfReader(BytesIO(raw))
    if _is_encrypted(reader):
        raise invalid_pdf_error("it is encrypted; send it without a password")
    if len(reader.pages) > MAX_PAGES:
        raise invalid_pdf_error(
            f"it has {len(reader.pages)} pages, and at most {MAX_PAGES} can be read"
        )
    pages: list[str] = []
    # A document may hold one page many times; it is read once.
    text_by_object: dict[int, str] = {}
    characters = 0
    for page in reader.pages:
        reference = page.indirect_reference
        text = text_by_object.get(reference.idnum) if reference is not None else None
        if text is None:
            # Broken fonts give halves of characters.
            text = page.extract_text().encode("utf-8", "replace").decode().strip()
            if reference is not None:
                text_by_object[reference.idnum] = text
        characters += len(text)
        if characters > MAX_TEXT_CHARACTERS:
            raise invalid_pdf_error(
                f"it has more than {MAX_TEXT_CHARACTERS} characters of text; "
                "send the pages that matter"
            )
        pages.append(text)
    return pages


def _is_encrypted(reader: Any) -> bool:
    """Return whether a PDF can't be read without a password."""
    from pypdf import PasswordType
    from pypdf.errors import DependencyError

    try:
        # Many are encrypted with an empty password, only to forbid printing.
        return reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED
    except DependencyError:  # a cipher that needs another library
        return True
