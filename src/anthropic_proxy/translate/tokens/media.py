"""Estimate the tokens of images and PDF files, from their first bytes or page objects.

No image or page is decoded. Source: the API's pages on vision (width x height / 750 after scaling
down to 1,568 pixels a side and 1.15 megapixels) and on PDF support (1,500 to 3,000 tokens a page).
"""

import base64
import binascii
import math
import re
from io import BytesIO

import imagesize

_PIXELS_PER_TOKEN = 750
_MAX_SIDE = 1568
_MAX_PIXELS = 1_150_000
# An image of unknown size (behind a URL, broken, of another format) counts as one at the limits.
_UNKNOWN_IMAGE_TOKENS = 1600

# The formats that upstreams accept. The library reads more, and parses some of them at length.
_FORMATS = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF")
# Characters of base64. A JPEG's size follows its metadata, which seldom exceeds 64 kB.
_HEAD_CHARACTERS = 4 * 40_000

_TOKENS_PER_PAGE = 2000
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
# A typical page, to estimate the number of pages where the page objects are compressed.
_BYTES_PER_PAGE = 37_500


def estimate_image(url: str) -> int:
    """Estimate the tokens of an image by its URL, which may be a data URL."""
    head, _, data = url[: _HEAD_CHARACTERS + 100].partition(";base64,")
    if not head.startswith("data:"):
        return _UNKNOWN_IMAGE_TOKENS
    width, height = _read_size(data[:_HEAD_CHARACTERS])
    if width <= 0 or height <= 0:
        return _UNKNOWN_IMAGE_TOKENS
    scale = min(1.0, _MAX_SIDE / max(width, height), math.sqrt(_MAX_PIXELS / (width * height)))
    return max(1, round(width * height * scale**2 / _PIXELS_PER_TOKEN))


def estimate_pdf(url: str) -> int:
    """Estimate the tokens of a PDF file by its data URL."""
    data = _decode(url.partition(";base64,")[2])
    pages = len(_PAGE.findall(data)) or 1 + len(data) // _BYTES_PER_PAGE
    return pages * _TOKENS_PER_PAGE


def _read_size(data: str) -> tuple[int, int]:
    """Return width and height in pixels; neither is positive if the size is unknown."""
    head = _decode(data)
    if not head.startswith(_FORMATS):
        return 0, 0
    # (-1, -1) for a broken or truncated image.
    width, height = imagesize.get(BytesIO(head), exif_rotation=False)
    return int(width), int(height)


def _decode(data: str) -> bytes:
    """Decode the complete groups of base64 `data`; return nothing when it is invalid."""
    try:
        return base64.b64decode(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""
