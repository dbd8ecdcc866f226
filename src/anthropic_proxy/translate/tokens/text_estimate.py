"""Estimate the tokens of a text by the classes of its characters.

Vocabularies merge common words, with the space before them, into single tokens. So letters need few
tokens, spaces between words none, and digits and punctuation many.

The text is reduced to one byte for each character, which names its class. ASCII letters are left
out: their number is the difference in length, and what remains is short. The tokens are the
weighted number of occurrences of a few patterns in it, each of which is one pass of C code.

The weights are a least-squares fit to the vocabularies of OpenAI (o200k) and Qwen3. They belong
together: a single weight has no meaning. docs/token-estimates.md describes the method and its
accuracy.
"""

from string import ascii_letters

# Bytes of UTF-8 that are left out: letters, and all but the first byte of longer characters.
_OMITTED = ascii_letters.encode() + bytes(range(0x80, 0xC0))

# Class of each character, by its first byte in UTF-8. All others are punctuation, as "\x1b" is.
_CLASSES = (
    (b"0123456789", b"0"),
    (b" ", b" "),
    (b"\t\n\v\f\r", b"\n"),
    # Latin letters with diacritics.
    (bytes(range(0xC2, 0xCA)), b"L"),
    # Greek, and combining marks.
    (bytes(range(0xCA, 0xD0)), b"G"),
    (bytes(range(0xD0, 0xD4)), b"C"),
    # Hebrew and Armenian.
    (bytes(range(0xD4, 0xD8)), b"H"),
    # Arabic and related scripts.
    (bytes(range(0xD8, 0xE0)), b"A"),
    # Scripts of India, Thai and Lao.
    (b"\xe0", b"I"),
    # Georgian, Ethiopic, Khmer, and the Latin letters of Vietnamese.
    (b"\xe1", b"E"),
    # Typographic punctuation, box drawing and other symbols.
    (b"\xe2", b"S"),
    # Kana, and the punctuation of Chinese and Japanese.
    (b"\xe3", b"K"),
    # Chinese characters.
    (bytes(range(0xE4, 0xEA)), b"Z"),
    # Hangul.
    (bytes(range(0xEA, 0xEE)), b"N"),
    # Private use and full-width forms.
    (b"\xee\xef", b"F"),
    # Emoji, and rare characters of any kind.
    (bytes(range(0xF0, 0xF8)), b"M"),
)

_TOKENS_PER_LETTER = 0.22
# Tokens for each occurrence that does not overlap the one before. A negative weight is never larger
# than the weight of its parts, so that more text is never fewer tokens.
_WEIGHTS = (
    # Punctuation, and the first after a space, also with letters between them.
    (b".", 0.27),
    (b" .", 0.7),
    # Lines and tabs: vocabularies merge runs of them.
    (b"\n", 1.08),
    (b"\n\n", -0.58),
    # Numbers: o200k has tokens of three digits, Qwen3 of one digit.
    (b"0", 1.3),
    (b"000", -0.7),
)
_WEIGHTS_BEYOND_ASCII = (
    (b"L", 1.35),
    (b"G", 0.67),
    (b"C", 0.32),
    (b"H", 0.47),
    (b"A", 0.45),
    (b"I", 0.59),
    (b"E", 0.65),
    (b"S", 1.4),
    (b"SS", -1.4),
    (b"K", 0.65),
    (b"Z", 0.74),
    (b"N", 0.76),
    (b"F", 1.0),
    (b"M", 2.6),
)
# The first word follows no space.
_FIRST_WORD = 0.4
# No text has fewer tokens. Only long runs of spaces come near.
_MAX_CHARACTERS_PER_TOKEN = 16


def _create_class_table() -> bytes:
    """Return the class of each byte, for bytes.translate."""
    table = bytearray(b"." * 256)
    for characters, class_name in _CLASSES:
        for character in characters:
            table[character] = class_name[0]
    return bytes(table)


_CLASS_TABLE = _create_class_table()


def estimate_text(text: str) -> int:
    """Return the estimated tokens of a text; 0 only for an empty one."""
    if not text:
        return 0
    classes = text.encode("utf-8", "replace").translate(_CLASS_TABLE, _OMITTED)
    letters = len(text) - len(classes)
    tokens = _FIRST_WORD + _TOKENS_PER_LETTER * letters + _count_weighted(classes, _WEIGHTS)
    if not text.isascii():
        tokens += _count_weighted(classes, _WEIGHTS_BEYOND_ASCII)
    return max(1, round(tokens), len(text) // _MAX_CHARACTERS_PER_TOKEN)


def _count_weighted(classes: bytes, weights: tuple[tuple[bytes, float], ...]) -> float:
    tokens = 0.0
    for pattern, weight in weights:
        tokens += weight * classes.count(pattern)
    return tokens
