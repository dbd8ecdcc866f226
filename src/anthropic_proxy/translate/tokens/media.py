"""Estimate the tokens of images and PDF files from their headers and page objects.

Images and pages are not decoded. Source: the API's pages on vision (width x height / 750, after
scaling down to 1,568 pixels per side and 1.15 megapixels) and on PDF support (1,500 to 3,000 tokens
per page).
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
# The maximum, for images of unknown size (remote, invalid or of another format).
_UNKNOWN_IMAGE_TOKENS = 1600

# The formats that upstreams accept. The library supports more, some of which it parses slowly.
_FORMATS = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF")
# In base64 characters. The size of a JPEG follows its metadata, which rarely exceeds 64 kB.
_HEAD_CHARACTERS = 4 * 40_000

_TOKENS_PER_PAGE = 2000
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
# A typical size, to estimate the number of pages if the page objects are compressed.
_BYTES_PER_PAGE = 37_500


def estimate_image(url: str) -> int:
    """Estimate the tokens of an image from its URL, which may be a data URL."""
    head, _, data = url[: _HEAD_CHARACTERS + 100].partition(";base64,")
    if not head.startswith("data:"):
        return _UNKNOWN_IMAGE_TOKENS
    width, height = _read_size(data[:_HEAD_CHARACTERS])
    if width <= 0 or height <= 0:
        return _UNKNOWN_IMAGE_TOKENS
    scale = min(1.0, _MAX_SIDE / max(width, height), math.sqrt(_MAX_PIXELS / (width * height)))
    return max(1, round(width * height * scale**2 / _PIXELS_PER_TOKEN))


def estimate_pdf(url: str) -> int:
    """Estimate the tokens of a PDF file from its data URL."""
    data = _decode(url.partition(";base64,")[2])
    pages = len(_PAGE.findall(data)) or 1 + len(data) // _BYTES_PER_PAGE
    return pages * _TOKENS_PER_PAGE


def _read_size(data: str) -> tuple[int, int]:
    """Return the width and height in pixels; both are 0 or negative if unknown."""
    head = _decode(data)
    if not head.startswith(_FORMATS):
        return 0, 0
    # The library returns (-1, -1) for an invalid or truncated image.
    width, height = imagesize.get(BytesIO(head), exif_rotation=False)
    return int(width), int(height)


def _decode(data: str) -> bytes:
    """Decode the complete groups of base64 `data`; return no bytes if it is invalid."""
    try:
        return base64.b64decode(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""
