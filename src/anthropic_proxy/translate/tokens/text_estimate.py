"""Estimate the tokens of a text by the patterns of its character classes.

Vocabularies merge common words and combinations of punctuation into single tokens. So the number of
tokens depends on where words, numbers and punctuation begin, and on how long the words are.

The text is reduced to one letter for each character, which names its class. Vowels are left out:
the consonants of a word predict its tokens better than all letters, and what remains is shorter.
The tokens are the weighted number of occurrences of a few patterns in the reduced text. It is all
done by C code that reads the text once for each pattern.

The weights are a least-squares fit to the vocabularies of OpenAI (o200k) and Qwen3. They belong
together: a single weight has no meaning. docs/token-estimates.md describes the method and its
accuracy.
"""

# Characters of UTF-8 that are left out: vowels, and all but the first byte of longer characters.
_OMITTED = b"aeiou" + bytes(range(0x80, 0xC0))

# Class of each character, by its first byte in UTF-8. All others are punctuation, as "\x1b" is.
_CLASSES = (
    (b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"a"),
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

# Tokens for each occurrence that does not overlap the one before. A negative weight is never larger
# than the weight of its parts, so that more text is never fewer tokens.
_WEIGHTS = (
    # Words, and their consonants.
    (b" a", 0.3),
    (b"a", 0.27),
    # Punctuation after a space and after a word, and runs of punctuation.
    (b" .", 1.09),
    (b"a.", 0.76),
    (b"..", 0.33),
    # Lines, and their indentation by tabs: vocabularies merge runs.
    (b"\n", 0.83),
    (b"\n\n", -0.8),
    # Numbers: o200k has tokens of three digits, Qwen3 of one digit.
    (b"0", 1.35),
    (b"000", -1.1),
)
_WEIGHTS_BEYOND_ASCII = (
    (b"L", 1.46),
    (b"G", 0.68),
    (b"C", 0.325),
    (b"H", 0.49),
    (b"A", 0.46),
    (b"I", 0.6),
    (b"E", 0.64),
    (b"S", 1.4),
    (b"SS", -1.4),
    (b"K", 0.655),
    (b"Z", 0.775),
    (b"N", 0.79),
    (b"F", 0.88),
    (b"M", 2.6),
)
# The first word follows no space.
_FIRST_WORD = 0.4
# No text has fewer tokens. Only runs of spaces and of vowels come near.
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
    tokens = _FIRST_WORD + _count_weighted(classes, _WEIGHTS)
    if not text.isascii():
        tokens += _count_weighted(classes, _WEIGHTS_BEYOND_ASCII)
    return max(1, round(tokens), len(text) // _MAX_CHARACTERS_PER_TOKEN)


def _count_weighted(classes: bytes, weights: tuple[tuple[bytes, float], ...]) -> float:
    tokens = 0.0
    for pattern, weight in weights:
        tokens += weight * classes.count(pattern)
    return tokens
