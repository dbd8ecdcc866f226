"""Small PDFs, made by hand (ISO 32000-1, 7.5): a page for each text, blank for an empty one."""

import base64
import io
import re

import pypdf


def pdf(*texts: str) -> bytes:
    """A PDF with these pages, in Helvetica."""
    pages = [f"{3 + 2 * number} 0 R" for number in range(len(texts))]
    font = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(pages)}]/Count {len(texts)}>>",
    ]
    for number, text in enumerate(texts):
        drawn = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else ""
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents {4 + 2 * number} 0 R"
        objects += [
            f"{page}/Resources<</Font<</F1 {font}>>>>>>",
            f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream",
        ]
    body = "%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    xref = f"xref\n0 {size}\n0000000000 65535 f \n{table}"
    trailer = f"{xref}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    return (body + trailer).encode()


def repeated(raw: bytes, times: int) -> bytes:
    """The PDF with its pages, the same objects, several times over."""
    kids = re.search(rb"/Kids\[(.*?)\]/Count (\d+)", raw)
    assert kids is not None
    again = b"/Kids[%b]/Count %d" % (b" ".join([kids[1]] * times), int(kids[2]) * times)
    # The table of offsets is no longer right; readers make a new one then.
    return raw.replace(kids[0], again)


def slow(pages: int = 300) -> bytes:
    """Return a PDF of some kilobytes that takes a quarter of an hour: nested forms, ten each."""
    forms = 12
    objects = ["<</Type/Catalog/Pages 2 0 R>>"]
    first = 4 + forms
    kids = " ".join(f"{first + number} 0 R" for number in range(pages))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {pages}>>")
    text = "BT /F1 12 Tf (x) Tj ET"
    font = "<</F1 <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
    for number in range(forms + 1):
        drawn = text if number == forms else "/X Do " * 10
        inner = "" if number == forms else f"/XObject<</X {4 + number} 0 R>>"
        head = (
            "<</Type/XObject/Subtype/Form/BBox[0 0 9 9]"
            f"/Resources<</Font{font}{inner}>>/Length {len(drawn)}>>"
        )
        objects.append(f"{head}stream\n{drawn}\nendstream")
    page = (
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]"
        f"/Resources<</XObject<</X 3 0 R>>>>/Contents {first + pages} 0 R>>"
    )
    objects += [page] * pages
    objects.append("<</Length 5>>stream\n/X Do\nendstream")
    body = "%PDF-1.4\n" + "".join(
        f"{number} 0 obj{content}endobj\n" for number, content in enumerate(objects, 1)
    )
    return (body + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n0\n%%EOF").encode()


def encrypted(raw: bytes, password: str) -> bytes:
    """The same PDF behind a password."""
    writer = pypdf.PdfWriter(io.BytesIO(raw))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def handmade(*replacements: tuple[bytes, bytes]) -> bytes:
    """Return a PDF with the text "Hello", after replacements in its objects."""
    stream = b"BT /F1 12 Tf 20 100 Td (Hello) Tj ET"
    bodies = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        (
            b"<< /Type /Page /MediaBox [0 0 200 200] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    trailer = b"trailer\n<< /Size 6 /Root 1 0 R >>\n"
    raw, table = b"%PDF-1.4\n", b"xref\n0 6\n0000000000 65535 f \n"
    for number, body in enumerate(bodies, 1):
        table += b"%010d 00000 n \n" % len(raw)
        raw += _replace(b"%d 0 obj\n%b\nendobj\n" % (number, body), replacements)
    end = b"startxref\n%d\n%%%%EOF\n" % len(raw)
    return raw + table + _replace(trailer, replacements) + end


def _replace(text: bytes, replacements: tuple[tuple[bytes, bytes], ...]) -> bytes:
    for old, new in replacements:
        text = text.replace(old, new)
    return text
