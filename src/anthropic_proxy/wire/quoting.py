"""Values of clients within messages about them: they may have megabytes, and a message has room for their beginning."""

_MOST_CHARACTERS = 200


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Return a text of at most `most` characters as it is; of a longer one the beginning, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
