"""The text of PDFs. Errors for PDFs that can't be read are in the request cases."""

import pytest
from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.request import pdf as pdf_module
from anthropic_proxy.translate.request.pdf import MAX_PAGES, read_pages
from tests.support.pdfs import base64_of, encrypted, handmade, pdf, repeated

ONE, TWO, SIX = (base64_of(pdf(text)) for text in ("One.", "Two.", "Six."))


def test_pages() -> None:
    assert read_pages(base64_of(pdf("Hello, world.", "", "Bye"))) == ["Hello, world.", "", "Bye"]


def test_an_empty_password_is_no_obstacle() -> None:
    assert read_pages(base64_of(encrypted(pdf("Hi"), ""))) == ["Hi"]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "a",
        "not base64!",
        base64_of(b"%PDF-"),
        base64_of(pdf("x")[:90]),
        base64_of(pdf()),
        ONE[: len(ONE) // 8 * 4],
    ],
)
def test_not_valid(data: str) -> None:
    with pytest.raises(
        ApiError, match=r"^400 invalid_request_error: The PDF specified was not valid: "
    ):
        read_pages(data)


def test_a_cipher_that_the_library_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def decrypt(*_: object) -> None:
        raise DependencyError("AES needs another library")

    monkeypatch.setattr(PdfReader, "decrypt", decrypt)
    with pytest.raises(ApiError, match="it is encrypted"):
        read_pages(base64_of(encrypted(pdf("Hi"), "")))


def test_too_many_pages() -> None:
    with pytest.raises(ApiError, match=f"it has {MAX_PAGES + 1} pages"):
        read_pages(base64_of(pdf(*["x"] * (MAX_PAGES + 1))))


def test_too_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "MAX_TEXT_CHARACTERS", 7)
    assert read_pages(base64_of(pdf("One", "Two."))) == ["One", "Two."]
    with pytest.raises(ApiError, match="was not valid: it has more than 7 characters of text"):
        read_pages(base64_of(pdf("One.", "Two.")))


def test_a_page_that_stands_in_the_document_many_times_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = []
    extract = PageObject.extract_text

    def reading(self: PageObject) -> str:
        read.append(self)
        return extract(self)

    monkeypatch.setattr(PageObject, "extract_text", reading)
    assert read_pages(base64_of(repeated(pdf("One.", "Two."), MAX_PAGES // 2))) == [
        "One.",
        "Two.",
    ] * (MAX_PAGES // 2)
    assert len(read) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/Kids [3 0 R]", b""),
        (b"/Kids [3 0 R]", b"/Kids []"),
        (b"/Kids [3 0 R]", b"/Kids [null]"),
        (b"/Kids [3 0 R]", b"/Kids 7"),
        (b"/Kids [3 0 R]", b"/Kids [9 0 R]"),
        (b"/Kids [3 0 R]", b"/Kids [2 0 R]"),
        (b"/Type /Pages", b"/Type /Odd"),
        (b"/Pages 2 0 R", b"/Pages 9 0 R"),
        (b"/Pages 2 0 R", b""),
        (b"/Pages 2 0 R", b"/Pages [1 2]"),
        (b"/Count 1", b"/Count 0"),
        (b"/Root 1 0 R", b"/Root 9 0 R"),
    ],
)
def test_pages_outside_of_a_broken_page_tree(old: bytes, new: bytes) -> None:
    assert read_pages(base64_of(handmade((old, new)))) == ["Hello"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/Type /Page /MediaBox", b"/Type /Form /MediaBox"),
        (b"3 0 obj\n<<", b"3 0 obj\n<"),
    ],
)
def test_no_pages(old: bytes, new: bytes) -> None:
    raw = handmade((b"/Kids [3 0 R]", b"/Kids []"), (old, new))
    with pytest.raises(ApiError, match=r"was not valid: it has no pages$"):
        read_pages(base64_of(raw))


def test_the_limits_apply_to_pages_outside_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "MAX_PAGES", 0)
    with pytest.raises(ApiError, match="it has 1 pages"):
        read_pages(base64_of(handmade((b"/Kids [3 0 R]", b"/Kids []"))))
